// sched/monitor/handoff.cpp - hand-off: a P is given to another M while its goroutine goes on without it.
//
// C++ code cannot be stopped at an arbitrary instruction: it may hold malloc's lock. So if an M stays outside its
// bracket for long (sysmon.cpp decides), its P is given to another M. The goroutine keeps running on its own thread,
// under the kernel's scheduler. It is now *detached* (in the code: adrift). At its next call into the runtime it
// queues for a P. An M *rests* if it has neither a P nor a goroutine.
//
//  an M is   holds a P  M::lost   M::in   leaves by
//  at work   yes        not gone  0 or 1  hand_off -> detached; nothing left to do -> idle.cpp
//  detached  no         gone      0       its goroutine parks or requeues itself (reacquire), back on g0 -> resting
//  resting   no         free      1       hand_off gives it a P -> at work; no P for long -> its thread ends
//
// A locked M (in the code: keeper; pin.cpp) does not rest: it waits for its lending M.
//
// hand_off() is called by sysmon. Under steal_pair it sets lost = take, calls membarrier and reads M::in. [BRK-1]
//   in == 1  The owner is in its bracket, so it will see the requests of others by itself. `lost` is restored.
//   in == 0  The owner is outside, and waits in enter_slow while `take` stands. So the P is ours: P->m = the other M,
//            lost = gone. [LOST-1]
// M::p of the detached M keeps its value, for code that wants the wheel or the dice of any P. In blocking(), if
// others wait, the owner does the same without a barrier, by a compare-and-swap free -> gone.
//
// A detached goroutine may compute, and may block in the kernel. For anything that involves a lock of the runtime it
// needs a P first, and keeps the P until the lock is free: enter_here() where there is a bracket, hold() elsewhere
// (hold.hpp). Both lead to reacquire(): the thread switches to g0, the goroutine is put into the global queue, and
// the M rests.
//
// Many hogs (detached goroutines that compute) must not starve the threads that hold Ps. So a detached thread whose
// CPU clock advances gets nice +10, which is a ninth of the weight (options::hogs). If its goroutine holds a lock of
// the program, for instance malloc's, then others wait longer for that lock by this factor at most. Two kinds are
// exempt: goroutines that have announced their call (blocking()), and pinned goroutines, because their thread belongs
// to the program. A thread without privilege cannot raise its priority again. So it ends once its goroutine has left
// it. Its priority is low until then, so on that way it takes no lock of the runtime (inject_low, put_threadless).
//
// Rejected:
//   preempting by a signal              unsafe at most instructions
//   suspending in a signal handler      the goroutine may hold malloc's lock
//   SCHED_IDLE instead of nice          beside other load nobody gets a lock that such a thread holds
//   more Ps than procs while hogs run
#include "sched/monitor/handoff.hpp"
#include "sched/runtime/threads.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <grt/runtime.hpp>

#include "base/futex.hpp"
#include "sched/core/fair.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/pin.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/stall.hpp"
#include "sched/protocol/drift.hpp"
#include "sched/protocol/handoff.hpp"

namespace grt {

std::atomic<std::uint64_t> handoffs{0};
bool hogs_are_lowered = true;

namespace {
constexpr std::int64_t rest_ns = 5'000'000'000; // after that time without a P a resting M's thread ends

constinit protocol::resters<hardware, M> at_rest;
std::atomic<unsigned> n_adrift{0};

void drift_begins(M* m, bool computes, bool announced) noexcept {
  m->detached_ns.store(now_ns(), std::memory_order_relaxed);
  m->computes.store(computes, std::memory_order_relaxed);
  n_adrift.fetch_add(1, std::memory_order_relaxed);
  protocol::drift_begins<hardware>(m, announced);
}

// Ends the lowered priority of m's thread. Caller: m's own thread, once its goroutine wants a P or has left it,
// before any lock is taken. Sets m->low if the priority cannot be raised again; then the thread must end.
void come_home(M* m) noexcept {
  if (protocol::come_home<hardware>(m))
    m->low = setpriority(PRIO_PROCESS, static_cast<id_t>(m->tid), m->nice_was) != 0; // [DRIFT-1]
}

// Removes m from the detached Ms. Caller: m's own thread, on g0.
void drift_leave(M* m) noexcept {
  come_home(m);
  protocol::is_back<hardware>(m);
  m->woken_as_watcher = false;
  m->computes.store(false, std::memory_order_relaxed);
  n_adrift.fetch_sub(1, std::memory_order_relaxed);
}

// Calls f for each detached M. Any thread. It takes no lock, so an M may get its P back at the same time.
template <class F> void each_adrift(F f) noexcept {
  for (M* m = all_m.load(std::memory_order_acquire); m; m = m->made_before) { // [MS-1]
    std::uint32_t w = m->drift.load(std::memory_order_acquire);               // [DRIFT-1]
    if ((w & protocol::drift_states) != protocol::home) f(m, w);
  }
}

void* worker_main(void* arg) {
  M* m = static_cast<M*>(arg);
  thread_enter(m);
  await_turn(m);
  deny(m);
  mloop(m);
  return nullptr;
}

// Go aborts here as well: a program that needs so many threads is broken, and would exhaust the machine.
[[noreturn]] void too_many() noexcept {
  claim_report();
  {
    text_out t(2);
    t.str("grt: fatal: ")
        .dec(threads())
        .str(" threads, the most that GRT_MAX_THREADS allows; goroutines that compute or block without a processor:\n");
    each_adrift([&t](M* m, std::uint32_t) {
      G* g = m->g;
      say_who(t, g);
      char path[64], call[16] = "?";
      std::snprintf(path, sizeof path, "/proc/self/task/%d/syscall", m->tid);
      if (int fd = open(path, O_RDONLY | O_CLOEXEC); fd >= 0) {
        if (ssize_t n = read(fd, call, sizeof call - 1); n > 0) *std::find(call, call + n, ' ') = 0;
        close(fd);
      }
      t.str(m->computes ? " computes" : " in system call ").str(m->computes ? "" : call);
      if (g->line) t.str(", created at ").str(static_cast<const char*>(g->site)).str(":").dec(g->line);
      t.str("\n");
    });
  }
  std::abort();
}

// Returns a resting M, or a new one whose thread waits for a P as well. null: no memory or no thread.
M* any_resting() noexcept {
  bool has_thread;
  M* m = at_rest.take(has_thread);
  if (has_thread) return m;
  try {
    if (!m) m = m_make(procs_max);
  } catch (...) {
    return nullptr;
  }
  if (threads() >= threads_max.load(std::memory_order_relaxed)) too_many();
  if (!thread_start(worker_main, m)) return m;
  at_rest.put_threadless(m);
  return nullptr;
}

void back_to_rest(M* m) noexcept { // m has not been given a P
  spin_guard hold(at_rest.lock);
  at_rest.put(m);
}

struct requeue : commit_record {
  G* g;
  bool last, low;
};
} // namespace

void give_turn(M* m) noexcept { protocol::give_turn<hardware>(m); }
void await_turn(M* m) noexcept { protocol::await_turn<hardware>(m); }

std::uint64_t thread_cpu_ns(int tid) noexcept {
  timespec t{};
  clock_gettime(static_cast<clockid_t>(~static_cast<unsigned>(tid) << 3 | 6), &t); // as in pthread_getcpuclockid
  return static_cast<std::uint64_t>(t.tv_sec) * 1000000000u + static_cast<std::uint64_t>(t.tv_nsec);
}

// The state letter of /proc: R means on a core or waiting for one. 0: the thread is gone.
char thread_state(int tid) noexcept {
  char path[48], line[256];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT || errno == ESRCH ? 0 : 'R'; // no descriptor left: assume it is running
  ssize_t n = read(fd, line, sizeof line - 1);
  close(fd);
  if (n <= 0) return 0;
  line[n] = 0;
  const char* end = line + n;
  while (end > line && *end != ')') end--; // skips the thread's name, which may contain any characters
  return end[0] == ')' && end[1] == ' ' ? end[2] : 'R';
}

unsigned adrift() noexcept { return n_adrift.load(std::memory_order_relaxed); }

bool hand_off(P* vp, std::uint64_t tick, bool computes, std::uint64_t starts_at) noexcept {
  M* m = protocol::holder_of<hardware>(vp);
  M* to = m->keeper ? nullptr : any_resting();
  if (!to && !m->keeper) return false;
  lost_state was = m->lost.load(std::memory_order_relaxed);
  bool takable = was == lost_state::free || was == lost_state::poke || was == lost_state::announced;
  auto good = [=] { return *const_cast<volatile std::uint64_t*>(&vp->tick) == tick && m->g != m->g0p; };
  auto begins = [=, &to] {
    if (was == lost_state::announced) announced_end();
    if (m->keeper) to = m->lender; // the lending M waits for its P
    drift_begins(m, computes, was == lost_state::announced);
    turn(vp);
    if (starts_at) vp->starts_at = starts_at;
  };
  constexpr std::uint64_t patience_us = 20; // longer than a lock of the runtime is held
  auto patient = [t0 = arch::cycles()] {
    arch::relax();
    return arch::cycles() - t0 < patience_us * cycles_per_us.load(std::memory_order_relaxed);
  };
  bool mine = takable && protocol::take_for<hardware>(vp, m, was, to, steal_pair, good, begins, patient);
  if (mine) {
    handoffs.fetch_add(1, std::memory_order_relaxed);
    give_turn(to);
  } else if (to && !m->keeper) {
    back_to_rest(to);
  }
  return mine;
}

void drift_ends(M* m) noexcept { drift_leave(m); }

static void lower_priority(M* m, std::uint32_t drift) noexcept {
  (void)protocol::lower<hardware>(m, drift, [m] { // false: m has its P back or is on its way to one
    auto id = static_cast<id_t>(m->tid);
    m->nice_was = getpriority(PRIO_PROCESS, id);
    // If this is refused (a seccomp filter), the thread competes as before.
    setpriority(PRIO_PROCESS, id, std::min(m->nice_was + 10, 19));
  });
}

// Decides for each detached M whether it computes, and lowers those that do. A hog that gets no CPU time shows no
// progress on its clock but is still a hog. So after 100 ms without progress its state is read from /proc instead:
// seldom, because that costs an open and a read.
unsigned push_hogs_back() noexcept {
  unsigned n = 0;
  std::uint64_t now = now_ns();
  constexpr std::uint64_t ask_ns = 100'000'000, grace_ns = 2'000'000;
  each_adrift([&](M* m, std::uint32_t drift) {
    auto& seen = m->seen;
    std::uint64_t cpu = thread_cpu_ns(m->tid);
    if (seen.drift != drift / protocol::drift_one) seen = {drift / protocol::drift_one, false, cpu, 0, now};
    std::uint64_t used = cpu - seen.cpu_ns;
    bool computes = m->computes.load(std::memory_order_relaxed);
    if (used != seen.used_ns) {
      computes = computes || used > grace_ns;
      seen.used_ns = used;
      seen.grew_ns = now;
    } else if (computes && now - seen.grew_ns > ask_ns) {
      computes = thread_state(m->tid) == 'R';
      seen.grew_ns = now;
    }
    m->computes.store(computes, std::memory_order_relaxed);
    n += computes;
    bool at_its_own = (drift & protocol::drift_states) == protocol::adrift;
    if (at_its_own && hogs_are_lowered && used > grace_ns && !(drift & protocol::drift_announced) && !m->keeper)
      lower_priority(m, drift);
  });
  return n;
}

void tell_stalls(std::uint64_t before_ns) noexcept {
  std::uint64_t now = now_ns();
  each_adrift([&](M* m, std::uint32_t drift) {
    if (drift & protocol::drift_announced || m->seen.told || m->seen.drift != drift / protocol::drift_one) return;
    std::uint64_t stalls = now - m->detached_ns.load(std::memory_order_relaxed) + before_ns;
    if (stalls < stall_ns) return;
    m->seen.told = true;
    stall_tell(m, stalls);
  });
}

M* reacquire(M* m) noexcept {
  G* g = m->g;
  come_home(m);
  requeue r;
  check_stack_of(g, &r);
  r.g = g;
  r.last = m->computes.load(std::memory_order_relaxed); // a stale value only changes its place in the queue
  r.low = m->low;
  r.fn = [](commit_record* c) {
    auto* q = static_cast<requeue*>(c);
    q->low ? inject_low(q->g) : q->last ? inject_last(q->g) : inject(q->g);
  };
  san::release(g);
  bool recorded = hooks.load(std::memory_order_relaxed) & hook_trace;
  std::uint64_t since = GRT_UNLIKELY(recorded) ? now_ns() : 0; // recorded once it has a P: recording takes a lock
  watch_mutexes(g, "its processor went to others");
  bool fp = hooks.load(std::memory_order_relaxed) & hook_fp;
  if (GRT_UNLIKELY(fp)) fp_leave(g);
  switch_to(m, g, m->g0p, commit_of(&r));
  san::acquire(g);
  if (GRT_UNLIKELY(fp)) fp_arrive(g);
  m = me();
  if (GRT_UNLIKELY(recorded)) record_slow(m, trace::kind::yield, g->id, 0, 0, since);
  return m;
}

bool rest(M* m) noexcept {
  come_home(m);
  if (G* g = m->lend) { // g0 had picked it before the P was taken
    m->lend = nullptr;
    m->low ? inject_low(g) : inject(g);
  }
  drift_leave(m);
  if (m->low) {
    protocol::words_go<hardware>(m);
    at_rest.put_threadless(m);
    return false;
  }
  back_to_rest(m);
  if (!at_rest.await_turn_for(m, rest_ns, [m] { protocol::words_go<hardware>(m); })) return false;
  deny(m);
  return true;
}

namespace detail {

bool blocking_begin() noexcept {
  M* m = me();
  if (!m || m->lost.load(std::memory_order_relaxed) == lost_state::announced) return false;
  if (grt_tls_hold.holds.load(std::memory_order_relaxed)) return false; // user code moves a value under a lock
  if (!enter(m)) return true; // detached already: its queues belong to another M
  bool others = !m->p->queue.empty() || injected.n.load(std::memory_order_relaxed);
  holding h; // until the function returns, because at_rest has a lock
  leave(m);  // any_resting() may start a thread
  M* to = !others ? nullptr : m->keeper ? m->lender : any_resting();
  if (!enter(m)) { // detached since the leave() above
    if (to && !m->keeper) back_to_rest(to);
    return true;
  }
  if (!protocol::step_aside<hardware>(m, to ? lost_state::gone : lost_state::announced)) { // the halt: halt.hpp
    leave(m);
    if (to && !m->keeper) back_to_rest(to);
    return true;
  }
  if (to) {
    drift_begins(m, false, true);
    turn(m->p);
    protocol::give<hardware>(m->p, to);
    handoffs.fetch_add(1, std::memory_order_relaxed);
  } else {
    announced_begin();
  }
  leave(m);
  if (to) give_turn(to);
  return true;
}

GRT_OPAQUE static void set_errno(int e) noexcept { errno = e; }

void blocking_end() noexcept {
  int e = errno;
  M* m = me();
  watch_mutexes(m->g, "blocking"); // also where the P is still here: that it was not taken was luck
  lost_state was = protocol::step_back<hardware>(m);
  if (was == lost_state::announced) announced_end();
  if (was == lost_state::gone) reacquire(m);
  set_errno(e);
}

} // namespace detail
} // namespace grt
