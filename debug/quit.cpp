// debug/quit.cpp - SIGQUIT, where nobody else wanted it.
//
// The handler does the dump itself: dump() is async-signal-safe, and a thread to be woken would be one more that can be
// missing when it is needed. It runs on whatever thread the kernel picks, on the alternate stack if that thread has
// one: those that run goroutines have. Sysmon blocks signals.
#include <atomic>
#include <cerrno>
#include <csignal>

#include <grt/debug.hpp>

#include "sched/core/ports.hpp"

namespace grt {
namespace {
void on_quit(int) {
  static std::atomic<bool> busy{false};
  if (busy.exchange(true, std::memory_order_relaxed)) return; // on another thread: one dump is enough
  int error = errno;
  debug::dump(2);
  errno = error;
  busy.store(false, std::memory_order_relaxed);
}
} // namespace

void watch_sigquit() noexcept {
  struct sigaction now {};
  if (sigaction(SIGQUIT, nullptr, &now) || (now.sa_flags & SA_SIGINFO) || now.sa_handler != SIG_DFL) return;
  struct sigaction ours {};
  ours.sa_handler = on_quit;
  ours.sa_flags = SA_ONSTACK | SA_RESTART;
  sigaction(SIGQUIT, &ours, nullptr);
}
} // namespace grt
