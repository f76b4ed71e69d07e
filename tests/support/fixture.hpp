// tests/support/fixture.hpp - every runtime test fails when it leaves a goroutine behind.
#pragma once
#include <gtest/gtest.h>

#include <grt/grt.hpp>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GRT_TEST_SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GRT_TEST_SLOW 1
#endif
#endif

/// Fewer rounds where each costs ten times more.
inline int scaled(int n) {
#ifdef GRT_TEST_SLOW
  return n / 20 + 1;
#else
  return n;
#endif
}

class GrtTest : public testing::Test {
protected:
  void SetUp() override { before_ = grt::goroutines(); }
  void TearDown() override {
    // An ended goroutine is counted out a moment after the signal its test waited for.
    for (int i = 0; i < 5000 && grt::goroutines() > before_; i++) grt::sleep_for(std::chrono::milliseconds(1));
    if (grt::goroutines() > before_) {
      grt::debug::dump(2);
      ADD_FAILURE() << grt::goroutines() - before_ << " goroutines left behind";
    }
  }

private:
  std::size_t before_ = 0;
};
