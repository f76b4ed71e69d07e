// sched/monitor/stall.cpp - the watchdog, GRT_DEBUG=stall=TIME.
//
// The watchdog reports a goroutine that has held its thread for longer than TIME. The report contains the goroutine's
// stack. It is written once for each place at which goroutines were created. Only a thread itself can walk its stack.
// So sysmon sends SIGURG to that thread, and the handler writes the report, on the alternate stack of the thread.
// Debugging code that wants the stack of a detached goroutine sends the same signal (debug/sample.hpp). The handler
// is installed only if the program did not handle, ignore or block SIGURG when the runtime started; by default the
// kernel ignores SIGURG. A system call that the thread has just begun may return EINTR. A goroutine in blocking() is
// not reported.
#include "sched/monitor/stall.hpp"

#include <atomic>
#include <csignal>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/ports.hpp"
#include "sched/core/sched.hpp"

namespace grt {
namespace {
constexpr unsigned sites_most = 256;
std::atomic<const void*> told[sites_most]; // by creation site; once it is full, every further stall is reported
std::atomic<bool> armed{false};

bool first_time(const G* g) noexcept {
  // The address of the file's name plus the line, or a code address.
  const void* key = static_cast<const char*>(g->site) + g->line;
  for (auto& slot : told) {
    const void* was = nullptr;
    if (slot.compare_exchange_strong(was, key, std::memory_order_relaxed)) return true;
    if (was == key) return false;
  }
  return true;
}

void on_signal(int, siginfo_t*, void* context) {
  int e = errno;
  bool sampled = take_sample(context);
  errno = e;
  M* m = me();
  if (sampled || !stall_ns || !m || m->g == m->g0p || m->in.load(std::memory_order_relaxed))
    return; // the goroutine has entered the runtime since the signal was sent
  G* g = m->g;
  if (first_time(g)) {
    long_text_out t(2);
    say_who(t.str("grt: stall: "), g)
        .str(" has held its thread for ")
        .dec(m->stalled_ms.load(std::memory_order_relaxed))
        .str(" ms");
    if (g->line) t.str(", created at ").str(static_cast<const char*>(g->site)).str(":").dec(g->line);
    t.str("\n");
    write_backtrace(t);
  }
  errno = e;
}
} // namespace

void stall_start() noexcept {
  struct sigaction old, a{};
  sigset_t mask;
  sigaction(SIGURG, nullptr, &old);
  pthread_sigmask(SIG_SETMASK, nullptr, &mask); // all threads that run goroutines will have this mask
  if ((old.sa_flags & SA_SIGINFO) || old.sa_handler != SIG_DFL || sigismember(&mask, SIGURG) == 1) {
    if (stall_ns)
      text_out(2).str("grt: warning: GRT_DEBUG=stall needs SIGURG, which the program handles or blocks: no reports\n");
    return;
  }
  a.sa_sigaction = on_signal;
  a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigaction(SIGURG, &a, nullptr);
  armed.store(true, std::memory_order_relaxed);
}

int stall_signal() noexcept { return armed.load(std::memory_order_relaxed) ? SIGURG : 0; }

void stall_tell(M* m, std::uint64_t held_ns) noexcept {
  if (!stall_signal()) return;
  m->stalled_ms.store(static_cast<std::uint32_t>(held_ns / 1'000'000), std::memory_order_relaxed);
  syscall(SYS_tgkill, getpid(), m->tid, SIGURG);
}

} // namespace grt
