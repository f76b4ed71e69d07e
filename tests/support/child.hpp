// tests/support/child.hpp - what a death test's process asks of itself.
#pragma once
#include <cstdio>
#include <unistd.h>

/// Else it ends with 1 and says what was wrong.
inline void expect(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  _exit(1);
}
