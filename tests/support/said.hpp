// tests/support/said.hpp - what a test's own child has written to stderr so far.
#pragma once
#include <string>
#include <string_view>

#include <sys/mman.h>
#include <unistd.h>

/// From its construction on; show() lets the parent have it.
class said {
public:
  said() { dup2(fd_, 2); }
  std::string text() const {
    std::string s(static_cast<std::size_t>(lseek(fd_, 0, SEEK_END)), 0);
    s.resize(static_cast<std::size_t>(pread(fd_, s.data(), s.size(), 0)));
    return s;
  }
  unsigned count(std::string_view what) const {
    std::string s = text();
    unsigned n = 0;
    for (std::size_t at = 0; (at = s.find(what, at)) != std::string::npos; at += what.size()) n++;
    return n;
  }
  void await(std::string_view what) const { // the test's time limit ends this
    while (!count(what)) usleep(1000);
  }
  void show() const {
    std::string s = text();
    if (write(shown_, s.data(), s.size()) < 0) _exit(9);
  }

private:
  int fd_ = memfd_create("stderr", MFD_CLOEXEC), shown_ = dup(2);
};
