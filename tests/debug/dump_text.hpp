// tests/debug/dump_text.hpp - what debug::dump writes, as a string; and tests in a process of their own.
#pragma once
#include <gtest/gtest.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include <grt/debug.hpp>

/// EXPECT_EXIT executes this program again, for that one test: a fork of a process with a runtime has none.
template <class Base = testing::Test> struct OwnProcess : Base {
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
#ifdef GRT_TEST_EMULATED
    GTEST_SKIP() << "the emulator's programs cannot be executed";
#endif
  }
};

inline std::string dump_text() {
  int fd = memfd_create("dump", MFD_CLOEXEC);
  grt::debug::dump(fd);
  std::string s(static_cast<std::size_t>(lseek(fd, 0, SEEK_END)), '\0');
  if (pread(fd, s.data(), s.size(), 0) != static_cast<ssize_t>(s.size())) s.clear();
  close(fd);
  return s;
}

/// The paragraph that begins with `head`; "" if there is none.
inline std::string paragraph(const std::string& text, const std::string& head) {
  std::size_t at = text.rfind("\n" + head) == std::string::npos ? text.find(head) : text.rfind("\n" + head) + 1;
  if (at == std::string::npos) return "";
  std::size_t end = text.find('\n', at);
  while (end != std::string::npos && text.compare(end, 5, "\n    ") == 0) end = text.find('\n', end + 1);
  return text.substr(at, end - at);
}
