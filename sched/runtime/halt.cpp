// sched/runtime/halt.cpp - see halt.hpp.
#include "sched/runtime/halt.hpp"
#include "sched/runtime/threads.hpp"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>

#include "base/check.hpp"
#include "base/futex.hpp"
#include "sched/core/foreign.hpp"
#include "sched/core/pin.hpp"
#include "sched/core/ports.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/protocol/halt.hpp"
#include "sched/time/timers.hpp"

namespace grt {

std::atomic<bool> exiting{false};
std::atomic<std::uint32_t> halted{0};

namespace {
constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t look_ns = 10 * ms, patience_ns = 1000 * ms, warn_ns = 10'000 * ms; // see watch_exit

spin_lock lock;     // held while the halt begins or is lifted
unsigned waits = 0; // under lock: how many waits lift the halt
M* exiter;          // under lock: the M whose goroutine has called exit(), as long as this M has its P

// Under lock.
int exit_tid;
std::uint64_t exit_since_ns;

template <class F> void each_holder(F f) noexcept {
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) // [PROCS-1]
    f(protocol::holder_of<hardware>(all_p[i].load(std::memory_order_relaxed)));
}

// Under lock.
void halt() noexcept {
  protocol::halt_begins<hardware>(halted);
  each_holder([](M* m) {
    if (protocol::stop<hardware>(m, steal_pair)) announced_end();
  });
}

// Under lock. The goroutine that has called exit() never comes back to the runtime, so its P goes to another M at
// once. If there is no thread for that, sysmon tries again when there is something to run.
void hand_over_exiters() noexcept {
  if (!exiter) return;
  for (int i = 0; i < 1000 && exiter->lost.load(std::memory_order_acquire) != lost_state::gone; i++) { // [LOST-1]
    P* p = exiter->p;
    if (!hand_off(p, p->tick, false, 0)) sched_yield(); // a thief is at work on this P
  }
  if (exiter->lost.load(std::memory_order_acquire) != lost_state::gone) return; // [LOST-1]
  drift_ends(exiter);
  exiter = nullptr;
}

// Under lock.
void lift() noexcept {
  halted.store(0, std::memory_order_relaxed);
  each_holder([](M* m) { protocol::let_run<hardware>(m); });
  hand_over_exiters();
  futex_wake(&halted, INT_MAX);
}

// Is thread `tid` in pthread_join, and does the thread that it joins wait in grt? pthread_join waits on a futex whose
// value is the id of the thread that it joins. Returns false also if /proc does not tell.
bool joins_a_waiter(int tid) noexcept {
  char path[48], line[200];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, line, sizeof line - 1);
  close(fd);
  if (n <= 0) return false;
  line[n] = 0;
  char* at;
  if (std::strtol(line, &at, 10) != SYS_futex) return false; // "running" in place of a number is read as 0
  unsigned long long arguments[3];
  for (auto& a : arguments) a = std::strtoull(at, &at, 16);
  return foreign_blocks(static_cast<int>(arguments[2]));
}

bool somebody_could_run() noexcept {
  if (injected.n.load(std::memory_order_relaxed) || timers_due()) return true;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) { // [PROCS-1]
    if (!all_p[i].load(std::memory_order_relaxed)->queue.racy_empty()) return true;
  }
  return false;
}
} // namespace

void halt_at_exit() noexcept {
  if (forked.load(std::memory_order_relaxed)) return;
  await_report(); // a thread that is writing a fatal report ends the process, not exit()
  M* m = me();
  if (m) thread_leave();
  if (m && m->lost.load(std::memory_order_acquire) == lost_state::gone) { // [LOST-1] its M is detached
    drift_ends(m);
    m = nullptr;
  }
  {
    spin_guard hold(lock);
    exit_tid = static_cast<int>(syscall(SYS_gettid));
    exit_since_ns = now_ns();
    exiting.store(true, std::memory_order_relaxed);
    exiter = m;
    if (!waits) halt();
  }
  sysmon_rouse(); // sysmon may be in a long sleep, and has to watch the exit
}

bool lift_halt::begin() noexcept {
  auto tid = static_cast<int>(syscall(SYS_gettid));
  {
    spin_guard hold(lock);
    if (tid == getpid() && tid != exit_tid) return false;
    if (waits++) return true;
    lift();
  }
  sysmon_rouse();
  return true;
}

void lift_halt::end() noexcept {
  spin_guard hold(lock);
  if (!--waits) halt();
}

void await_lift(M* m) noexcept { protocol::await_lift<hardware>(m, halted); }

bool rejoin(M* m) noexcept {
  return protocol::rejoin<hardware>(m, [m] { return enter(m); });
}

void watch_exit() noexcept {
  static bool warned;
  int tid;
  std::uint64_t begun_ns;
  {
    spin_guard hold(lock);
    tid = exit_tid;
    begun_ns = exit_since_ns;
  }
  while (halted.load(std::memory_order_relaxed)) {
    futex_wait(&halted, 1, look_ns);
    if (!halted.load(std::memory_order_relaxed)) return;
    std::uint64_t since = now_ns() - begun_ns;
    if (foreign_blocked() && (since >= patience_ns || joins_a_waiter(tid))) {
      spin_guard hold(lock);
      if (!waits++) lift(); // for good: `waits` never falls to 0 again
      return;
    }
    if (since < warn_ns || warned || !somebody_could_run()) continue;
    warned = true;
    text_out(2).str(
        "grt: warning: the process has been in exit() for 10 s, where goroutines stand still until a thread "
        "waits for them with a call of grt: docs/exit.md\n");
  }
}

bool process_ends() noexcept { return exiting.load(std::memory_order_relaxed) || stack_is_in_exit(); }

} // namespace grt
