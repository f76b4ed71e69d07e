// debug/quit.cpp - writes a dump on SIGQUIT, unless the program handles or ignores that signal.
//
// The handler writes the dump itself, because dump() is async-signal-safe, and a separate thread that has to be woken
// might be missing when it is needed. The handler runs on the thread that the kernel picks, and on its alternate stack
// if it has one; threads that run goroutines have one. Sysmon blocks signals.
#include <atomic>
#include <cerrno>
#include <csignal>

#include <grt/debug.hpp>

#include "sched/core/ports.hpp"

namespace grt {
namespace {
void on_quit(int) {
  static std::atomic<bool> busy{false};
  if (busy.exchange(true, std::memory_order_relaxed)) return; // another thread writes one
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
