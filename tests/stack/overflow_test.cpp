// The rule that tells a stack overflow from a bad pointer, and alternate signal stacks.
#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include <sys/mman.h>

#include "stack/overflow.hpp"

namespace {
using namespace grt::stack;

// A window of 256 KB far from anything.
constexpr std::uintptr_t guard = 0x7000'0000'0000, low = guard + guard_bytes, high = low + (256 << 10) + 4096,
                         page_bytes = 4096;
bounds window() {
  auto p = [](std::uintptr_t v) { return reinterpret_cast<char*>(v); };
  return {p(guard), p(low), p(high), 256 << 10};
}
bool overflow(std::uintptr_t at, std::uintptr_t sp) { return is_overflow(window(), false, at, sp); }

TEST(OverflowRule, AStepBelowTheStackPointer_IsAnOverflow) {
  EXPECT_TRUE(overflow(low - 8, low));                // push, call
  EXPECT_TRUE(overflow(low - 128, low));              // red zone
  EXPECT_TRUE(overflow(low - 1, low + page_bytes));   // a probe of the next page
  EXPECT_TRUE(overflow(low - page_bytes, low + 100)); // the kernel has reported the page
}
TEST(OverflowRule, AFrameThatWentDown_IsAnOverflow) {
  EXPECT_TRUE(overflow(low - 8, low - 4096));
  EXPECT_TRUE(overflow(guard, guard + 64));
  EXPECT_TRUE(overflow(low - 1, guard - (1 << 20))); // 1 MB in one frame, written from its upper end
  EXPECT_TRUE(overflow(guard - (1 << 20), guard - (1 << 20)));
}
TEST(OverflowRule, ABadPointer_IsNone) {
  EXPECT_FALSE(overflow(low - 8, low + 100000)); // into its own guard
  EXPECT_FALSE(overflow(guard, low + 3 * page_bytes));
  EXPECT_FALSE(overflow(guard - 300000, low + 100)); // into a neighbour's
  EXPECT_FALSE(overflow(high + 10, low + 100));
  EXPECT_FALSE(overflow(8, low + 8)); // elsewhere
  EXPECT_FALSE(overflow(8, low - 8));
  EXPECT_FALSE(overflow(low - 8, 0x5555'0000'0000)); // from a stack of another kind
  EXPECT_FALSE(overflow(low - 8, high + 0x1000'0000));
}
TEST(OverflowRule, WithoutAGuard_TheStackPointerBelowIsEnough) {
  EXPECT_TRUE(is_overflow(window(), true, 8, low - 8));
  EXPECT_TRUE(is_overflow(window(), true, 8, guard - (1 << 20)));
  EXPECT_FALSE(is_overflow(window(), true, 8, low + 8));
  EXPECT_FALSE(is_overflow(window(), true, 8, 0x5555'0000'0000));
}
TEST(OverflowRule, WhoeverStandsInAWindowAndRunsIntoItsGuard) {
  EXPECT_TRUE(is_overflow_of(window(), low - 8, low));
  EXPECT_TRUE(is_overflow_of(window(), low - 8, guard + 8));
  EXPECT_FALSE(is_overflow_of(window(), low - 8, low + 100000));
  EXPECT_FALSE(is_overflow_of(window(), low - 8, 0x5555'0000'0000));
  EXPECT_FALSE(is_overflow_of(window(), guard - 8, guard + 8));
}

bool mapped(void* page) {
  unsigned char in_memory;
  return mincore(page, page_bytes, &in_memory) == 0;
}
TEST(Altstack, HasAGuardPage_AndGoesWithItsThread) {
#if defined(GRT_TEST_EMULATED)
  GTEST_SKIP() << "qemu-user does not say which pages are mapped";
#endif
  std::thread([] {
    stack_t mine{}, none{};
    none.ss_flags = SS_DISABLE;
    sigaltstack(&none, nullptr); // a sanitizer's
    install_altstack();
    ASSERT_EQ(sigaltstack(nullptr, &mine), 0);
    ASSERT_FALSE(mine.ss_flags & SS_DISABLE);
    char* below = static_cast<char*>(mine.ss_sp) - page_bytes;
    EXPECT_TRUE(mapped(below));
    EXPECT_EQ(madvise(below, page_bytes, 23 /* MADV_POPULATE_WRITE */), -1); // no memory can be had there
    remove_altstack();
    EXPECT_FALSE(mapped(below));
    EXPECT_FALSE(mapped(mine.ss_sp));
    ASSERT_EQ(sigaltstack(nullptr, &mine), 0);
    EXPECT_TRUE(mine.ss_flags & SS_DISABLE);
  }).join();
}
TEST(Altstack, OfTheProgramStays) {
  std::thread([] {
    static char own[64 << 10];
    stack_t mine{}, have{};
    mine.ss_sp = own;
    mine.ss_size = sizeof own;
    install_altstack();
    ASSERT_EQ(sigaltstack(&mine, nullptr), 0);
    remove_altstack();
    ASSERT_EQ(sigaltstack(nullptr, &have), 0);
    EXPECT_EQ(have.ss_sp, own);
    have.ss_flags = SS_DISABLE;
    sigaltstack(&have, nullptr);
  }).join();
}
} // namespace
