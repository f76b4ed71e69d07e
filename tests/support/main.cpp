// tests/support/main.cpp - gtest's main with a time limit for every test: a hang names the test, dumps all goroutines
// and fails.
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <grt/debug.hpp>

#include "tests/support/seed.hpp"

namespace {
char current[256];
unsigned limit_s = 300; // GRT_TEST_LIMIT; the longest take ten seconds, on a machine that is left alone

void on_alarm(int) {
  const char head[] = "\ntime limit reached in ";
  if (write(2, head, sizeof head - 1) < 0 || write(2, current, std::strlen(current)) < 0 ||
      write(2, seed_note, std::strlen(seed_note)) < 0 || write(2, "\n", 1) < 0)
    _exit(3);
  grt::debug::dump(2);
  _exit(3);
}

struct limiter : testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& t) override {
    std::snprintf(current, sizeof current, "%s.%s", t.test_suite_name(), t.name());
    alarm(limit_s);
  }
  void OnTestEnd(const testing::TestInfo&) override { alarm(0); }
};
} // namespace

#if GRT_DETAIL_TSAN
// The owners of an exception are counted in libstdc++, which ThreadSanitizer does not see: for it, whoever drops the
// last reference frees what others have read. docs/debugging.md
extern "C" const char* __tsan_default_suppressions() {
  return "race:std::__exception_ptr::exception_ptr::_M_release\n";
}
#endif

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // tests/flaky.py: each case's name as it begins, or a crash would not say where it was.
  if (std::getenv("GRT_TEST_NAMES")) GTEST_FLAG_SET(brief, false);
  if (const char* s = std::getenv("GRT_TEST_LIMIT")) limit_s = static_cast<unsigned>(std::atoi(s));
  std::signal(SIGALRM, on_alarm);
  pthread_atfork(nullptr, nullptr,
                 [] { alarm(limit_s / 2 + 1); }); // a child that hangs says so before its parent gives up
  testing::UnitTest::GetInstance()->listeners().Append(new limiter);
  return RUN_ALL_TESTS();
}
