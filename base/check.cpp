// base/check.cpp - text without stdio, and the two ways to die.
#include "base/check.hpp"

#include <cstdlib>
#include <cstring>
#include <unistd.h>
#include <unwind.h>

namespace grt {

text_out& text_out::str(const char* s) noexcept { return str(s, std::strlen(s)); }

text_out& text_out::str(const char* s, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; i++) {
    if (n_ == sizeof buf_) flush();
    buf_[n_++] = s[i];
  }
  return *this;
}

text_out& text_out::dec(std::uint64_t v) noexcept {
  char digits[20];
  std::size_t n = 0;
  do digits[n++] = static_cast<char>('0' + v % 10);
  while (v /= 10);
  while (n) str(&digits[--n], 1);
  return *this;
}

text_out& text_out::hex(std::uint64_t v) noexcept {
  char digits[16];
  std::size_t n = 0;
  do digits[n++] = "0123456789abcdef"[v & 15];
  while (v >>= 4);
  str("0x", 2);
  while (n) str(&digits[--n], 1);
  return *this;
}

void text_out::flush() noexcept {
  for (std::size_t done = 0; done < n_;) {
    ssize_t r = ::write(fd_, buf_ + done, n_ - done);
    if (r <= 0) break;
    done += static_cast<std::size_t>(r);
  }
  n_ = 0;
}

// From the linker, of the program or the shared library that we are linked into.
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start, etext;

void write_backtrace(int fd) noexcept {
  struct out {
    int fd, depth;
  } o{fd, 0};
  _Unwind_Backtrace(
      [](_Unwind_Context* c, void* arg) {
        auto* o = static_cast<out*>(arg);
        std::uintptr_t ip = _Unwind_GetIP(c), base = reinterpret_cast<std::uintptr_t>(&__ehdr_start);
        if (!ip) return _URC_END_OF_STACK;
        text_out t(o->fd);
        t.str("    ").hex(ip);
        if (ip >= base && ip < reinterpret_cast<std::uintptr_t>(&etext)) t.str("  +").hex(ip - base);
        t.str("\n");
        return ++o->depth < 32 ? _URC_NO_REASON : _URC_END_OF_STACK;
      },
      &o);
}

void fatal(const char* message) noexcept {
  text_out(2).str("grt: fatal: ").str(message).str("\n");
  std::abort();
}

void fatal(const char* message, std::uint64_t number) noexcept {
  text_out(2).str("grt: fatal: ").str(message).dec(number).str("\n");
  std::abort();
}

std::atomic<bool> forked{false};
void die_forked() noexcept { fatal("the runtime is used after fork: a forked child may only exec or _exit"); }

void check_failed(const char* condition, const char* file, int line) noexcept {
  text_out(2)
      .str("grt: fatal: check failed at ")
      .str(file)
      .str(":")
      .dec(static_cast<unsigned>(line))
      .str(": ")
      .str(condition)
      .str("\n");
  std::abort();
}

} // namespace grt
