// tests/support/compute.hpp - a goroutine that keeps a core busy.
#pragma once
#include <chrono>
#include <ctime>

/// Returns when the calling thread has had so much of a core. No scheduling point.
inline void compute(std::chrono::nanoseconds d) {
  auto used = [] {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  };
  for (auto end = used() + d; used() < end;) {
  }
}
