// base/check.cpp - text output without stdio, the claim on the fatal report, and the functions that end the process.
//
// The claim is one word. It names the process and the thread that hold it: because it names the process, a forked child
// does not wait for a thread that only its parent has. The claim guards no data, so its accesses are relaxed. A waiter
// sleeps in steps of 5 ms. Rejected: a futex, which must be woken; a dying process wakes nobody.
#include "base/check.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

namespace grt {

text_out& text_out::str(const char* s) noexcept { return str(s, std::strlen(s)); }

text_out& text_out::str(const char* s, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; i++) {
    if (n_ == size_) flush();
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
    if (r < 0 && errno == EINTR) continue;
    if (r <= 0) break;
    done += static_cast<std::size_t>(r);
  }
  n_ = 0;
}

// Defined by the linker for the program or the shared library that this file is linked into.
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start, etext;

namespace {
void backtrace(text_out& t, bool line_by_line) noexcept {
  struct out {
    text_out& t;
    bool line_by_line;
    int depth = 0;
  } o{t, line_by_line};
  _Unwind_Backtrace(
      [](_Unwind_Context* c, void* arg) {
        auto* o = static_cast<out*>(arg);
        std::uintptr_t ip = _Unwind_GetIP(c), base = reinterpret_cast<std::uintptr_t>(&__ehdr_start);
        if (!ip) return _URC_END_OF_STACK;
        o->t.str("    ").hex(ip);
        if (ip >= base && ip < reinterpret_cast<std::uintptr_t>(&etext)) o->t.str("  +").hex(ip - base);
        o->t.str("\n");
        if (o->line_by_line) o->t.flush(); // reading the next frame may fault
        return ++o->depth < 32 ? _URC_NO_REASON : _URC_END_OF_STACK;
      },
      &o);
}
} // namespace

void write_backtrace(text_out& t) noexcept { backtrace(t, false); }
void write_backtrace(int fd) noexcept {
  text_out t(fd);
  backtrace(t, true);
}

namespace {
std::atomic<std::uint64_t> claim{0}; // 0: free

std::uint64_t this_process() noexcept { return static_cast<std::uint64_t>(getpid()) << 32; }
std::uint64_t this_thread() noexcept { return this_process() | static_cast<std::uint32_t>(syscall(SYS_gettid)); }
// A holder with another process id is a thread of the parent, which does not exist in this forked child.
bool is_free(std::uint64_t holder) noexcept { return holder >> 32 != this_process() >> 32; }

// Sleeps until `holder` has given up the claim. Returns false if it still has the claim after 10 s.
bool await_end_of(std::uint64_t holder) noexcept {
  for (int i = 0; i < 2000; i++) {
    if (claim.load(std::memory_order_relaxed) != holder) return true;
    timespec step{0, 5'000'000};
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &step, nullptr); // raw: not a cancellation point
  }
  return false;
}
} // namespace

std::atomic<void (*)() noexcept> report_cause{nullptr};

void claim_report(bool ask_cause) noexcept {
  std::uint64_t mine = this_thread(), holder = claim.load(std::memory_order_relaxed);
  for (;;) {
    if (holder == mine) std::abort();
    if (!is_free(holder) && await_end_of(holder)) holder = claim.load(std::memory_order_relaxed);
    else if (claim.compare_exchange_strong(holder, mine, std::memory_order_relaxed)) break;
  }
  auto write_cause = report_cause.load(std::memory_order_relaxed);
  if (ask_cause && write_cause) write_cause();
}

bool reporting() noexcept { return claim.load(std::memory_order_relaxed) == this_thread(); }

void drop_report() noexcept { claim.store(0, std::memory_order_relaxed); }

void await_report() noexcept {
  std::uint64_t holder = claim.load(std::memory_order_relaxed);
  if (!is_free(holder) && holder != this_thread()) await_end_of(holder);
}

void fatal(const char* message) noexcept {
  claim_report();
  text_out(2).str("grt: fatal: ").str(message).str("\n");
  std::abort();
}

void fatal(const char* message, std::uint64_t number) noexcept {
  claim_report();
  text_out(2).str("grt: fatal: ").str(message).dec(number).str("\n");
  std::abort();
}

std::atomic<bool> forked{false};
void die_forked() noexcept { fatal("the runtime is used after fork: a forked child may only exec or _exit"); }

bool on_signal_stack() noexcept {
  stack_t now;
  return sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_ONSTACK);
}
void die_in_handler() noexcept { fatal("a signal handler waits in grt; handlers must not call grt"); }

void check_failed(const char* condition, const char* file, int line) noexcept {
  claim_report();
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
