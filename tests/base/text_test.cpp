// tests/base/text_test.cpp - what fatal paths write: numbers, long texts, and a descriptor that takes nothing.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.hpp"
#include "tests/support/slow.hpp"

namespace {
using grt::text_out;

/// What f writes to a file of its own.
template <class F> std::string written(F f) {
  int fd = memfd_create("text", MFD_CLOEXEC);
  f(fd);
  std::string s(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)), '\0');
  EXPECT_EQ(pread(fd, s.data(), s.size(), 0), static_cast<ssize_t>(s.size()));
  close(fd);
  return s;
}

TEST(TextOut, Numbers_AreWrittenInFull) {
  EXPECT_EQ(written([](int fd) {
              text_out(fd)
                  .dec(0)
                  .str(" ")
                  .dec(10)
                  .str(" ")
                  .dec(UINT64_MAX)
                  .str(" ")
                  .hex(0)
                  .str(" ")
                  .hex(0xC0FFEE)
                  .str(" ")
                  .hex(UINT64_MAX);
            }),
            "0 10 18446744073709551615 0x0 0xc0ffee 0xffffffffffffffff");
}

TEST(TextOut, PartOfAString_IsWrittenWithItsZeroBytes) {
  EXPECT_EQ(written([](int fd) { text_out(fd).str("abcdef", 3).str("\0x", 2).str("", 0); }), std::string("abc\0x", 5));
}

TEST(TextOut, TextLongerThanTheBuffer_IsWrittenInOrder) {
  for (std::size_t n : {511u, 512u, 513u, 1024u, 5000u}) {
    std::string s;
    while (s.size() < n) s += static_cast<char>('a' + s.size() % 26);
    EXPECT_EQ(written([&](int fd) { text_out(fd).str(s.c_str()).dec(7); }), s + "7");
    EXPECT_EQ(written([&](int fd) { // a number that begins before the buffer is full and ends after it
                text_out(fd).str(s.c_str(), s.size() - 3).dec(123456789);
              }),
              s.substr(0, s.size() - 3) + "123456789");
  }
}

TEST(TextOut, Flush_WritesAtOnce_AndNothingTwice) {
  EXPECT_EQ(written([](int fd) {
              text_out t(fd);
              t.str("one ");
              t.flush();
              EXPECT_EQ(lseek(fd, 0, SEEK_END), 4);
              t.flush();
              t.str("two");
            }),
            "one two");
}

TEST(TextOut, ADescriptorThatTakesNothing_EndsTheWrite) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const char part[4096] = {};
  while (write(ends[1], part, sizeof part) > 0) { // until the pipe is full
  }
  while (write(ends[1], part, 1) > 0) {
  }
  text_out(ends[1]).str(std::string(2000, 'x').c_str()).dec(1);
  close(ends[0]);
  close(ends[1]);
  text_out(ends[1]).str("to a closed descriptor");
  text_out(-1).str("to none");
}

TEST(Check, Failing_NamesConditionPlaceAndMessage) {
  int two = 2;
  GRT_CHECK(two == 2);
  EXPECT_EXIT(GRT_CHECK(two == 3, "it is not three"), testing::KilledBySignal(SIGABRT),
              "^grt: fatal: check failed at .*text_test.cpp:[0-9]+: two == 3: it is not three\n" GRT_END_OF_OUTPUT);
  EXPECT_EXIT(GRT_CHECK(two == 3), testing::KilledBySignal(SIGABRT), ": two == 3\n" GRT_END_OF_OUTPUT);
  EXPECT_EXIT(grt::fatal("no more of these: ", 42), testing::KilledBySignal(SIGABRT),
              "^grt: fatal: no more of these: 42\n" GRT_END_OF_OUTPUT);
}

TEST(Backtrace, HasALineForEachFrame) {
  std::string s = written([](int fd) { grt::write_backtrace(fd); });
  EXPECT_EQ(s.find("    0x"), 0u) << s;
  EXPECT_GT(std::count(s.begin(), s.end(), '\n'), 2) << s;
}
} // namespace
