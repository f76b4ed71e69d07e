// tests/support/fixture.hpp - every runtime test fails when it leaves a goroutine behind.
#pragma once
#include <gtest/gtest.h>
#include <string_view>

#include <grt/grt.hpp>

#include "tests/support/slow.hpp"

/// What each new window holds for good: with no guard, the page that its canary stands in.
inline std::size_t canary_bytes() { return std::string_view(grt::debug::guards()) == "canary" ? 4096 : 0; }

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
