// sched/handoff.cpp - takes the processor away, not the goroutine.
//
// C++ code cannot be stopped at any instruction: it may hold malloc's lock. So a P whose M has not come by for long
// (sysmon.cpp decides) is given to another M; the goroutine runs on under the kernel's scheduler, *adrift*, and queues
// for a P at its next call into the runtime.
//
//  an M is  holds a P  M::lost   M::in   leaves by
//  at work  yes        not gone  0 or 1  hand_off -> adrift; nothing left to do -> idle.cpp
//  adrift   no         gone      0       its goroutine parks or requeues itself (reacquire), back on g0 -> resting
//  resting  no         free      1       hand_off gives it a P -> at work; nobody did for long: its thread ends
//
// A keeper (pin.cpp) does not rest, it waits for its lender.
//
// hand_off, by sysmon: under steal_pair lost -> take; membarrier; look at `in` [BRK-1]. 1: the owner is in its bracket,
// it comes by after all: back to what it was. 0: it is outside and waits in enter_slow while `take` stands, so the P
// is ours: P->m = the other M, lost = gone. [LOST-1] M::p stays what it was, for code that wants any P's wheel or dice.
// The owner itself (blocking(), others waiting) does the same without a barrier, by compare-and-swap free -> gone.
//
// What a goroutine adrift may do: ready() and spawn go by the global queue, then, as at every runtime call that holds
// no lock, reacquire(). park() needs no P: it switches to g0, which rests. A timer's wheel has a lock of its own. Under
// a lock nobody waits for a P: enter() that fails there only says so.
//
// Too many hogs must not starve those that hold Ps: a thread adrift whose clock advances becomes SCHED_IDLE. That is
// one-way without privilege, so such a thread ends once its goroutine has left it. It inverts priorities where a hog
// holds a lock that others want (malloc's); docs/scheduler.md says so.
// Rejected: preempting by signal (unsafe at most instructions); more Ps than procs while somebody hogs.
#include "sched/handoff.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <grt/runtime.hpp>

#include "base/futex.hpp"
#include "sched/hooks.hpp"
#include "sched/pin.hpp"
#include "sched/protocol_handoff.hpp"
#include "sched/sched.hpp"
#include "sched/stall.hpp"

namespace grt {

std::atomic<std::uint64_t> handoffs{0};

namespace {
constexpr std::int64_t rest_ns = 5'000'000'000;

constinit protocol::resters<hardware, M> at_rest;
spin_lock& lock = at_rest.lock; // the lists, and `background` of those in them
M* drifting;
std::atomic<unsigned> n_adrift{0};

void drift_begins(M* m, bool computes, bool announced) noexcept {
  m->drift_cpu_ns = thread_cpu_ns(m->tid);
  m->drift_used_ns = m->drift_seen = 0;
  m->detached_ns = now_ns();
  m->drift_since = announced ? 0 : m->detached_ns;
  m->computes.store(computes, std::memory_order_relaxed);
  spin_guard hold(lock);
  m->drift_next = drifting;
  if (drifting) drifting->drift_link = &m->drift_next;
  m->drift_link = &drifting;
  drifting = m;
  n_adrift.fetch_add(1, std::memory_order_relaxed);
}

// Under lock, on m's own thread, whose goroutine has left it. false: the thread must end, it cannot rise from
// SCHED_IDLE.
bool drift_leave(M* m) noexcept {
  protocol::is_back<hardware>(m);
  m->woken_as_watcher = false;
  sched_param none{};
  bool rises = !m->background || sched_setscheduler(0, SCHED_OTHER, &none) == 0;
  m->background = false;
  m->computes.store(false, std::memory_order_relaxed);
  *m->drift_link = m->drift_next;
  if (m->drift_next) m->drift_next->drift_link = m->drift_link;
  m->drift_link = nullptr;
  n_adrift.fetch_sub(1, std::memory_order_relaxed);
  return rises;
}

void* worker_main(void* arg) {
  M* m = static_cast<M*>(arg);
  thread_enter(m);
  await_turn(m);
  deny(m);
  mloop(m);
  return nullptr;
}

// As Go does: a program that needs so many is broken, and would break the machine.
[[noreturn]] void too_many() noexcept {
  claim_report();
  {
    text_out t(2);
    t.str("grt: fatal: ")
        .dec(threads())
        .str(" threads, the most that GRT_MAX_THREADS allows; goroutines that compute or block without a processor:\n");
    spin_guard hold(lock);
    for (M* m = drifting; m; m = m->drift_next) {
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
    }
  }
  std::abort();
}

// An M at rest, or a new one whose thread waits likewise. null: no memory or no thread.
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
  spin_guard hold(lock);
  at_rest.put(m, false);
  return nullptr;
}

void back_to_rest(M* m) noexcept { // nobody gave it anything
  spin_guard hold(lock);
  at_rest.put(m, true);
}

struct requeue : commit_record {
  G* g;
  bool last;
};
} // namespace

void give_turn(M* m) noexcept { protocol::give_turn<hardware>(m); }
void await_turn(M* m) noexcept { protocol::await_turn<hardware>(m); }

std::uint64_t thread_cpu_ns(int tid) noexcept {
  timespec t{};
  clock_gettime(static_cast<clockid_t>(~static_cast<unsigned>(tid) << 3 | 6), &t); // as pthread_getcpuclockid makes it
  return static_cast<std::uint64_t>(t.tv_sec) * 1000000000u + static_cast<std::uint64_t>(t.tv_nsec);
}

// R: on a core or waiting for one. 0: it is gone.
char thread_state(int tid) noexcept {
  char path[48], line[256];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT || errno == ESRCH ? 0 : 'R'; // no descriptor to be had: it is given the benefit
  ssize_t n = read(fd, line, sizeof line - 1);
  close(fd);
  if (n <= 0) return 0;
  line[n] = 0;
  const char* end = line + n;
  while (end > line && *end != ')') end--; // the name may hold anything
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
    if (m->keeper) to = m->lender; // it waits for just this
    drift_begins(m, computes, was == lost_state::announced);
    turn(vp);
    if (starts_at) vp->starts_at = starts_at;
  };
  bool mine = takable && protocol::take_for<hardware>(vp, m, was, to, steal_pair, good, begins);
  if (mine) {
    handoffs.fetch_add(1, std::memory_order_relaxed);
    give_turn(to);
  } else if (to && !m->keeper) {
    back_to_rest(to);
  }
  return mine;
}

void drift_ends(M* m) noexcept {
  spin_guard hold(lock);
  drift_leave(m);
}

// Without the processor that its clock needs to advance a hog is one still: then its state counts, asked for seldom.
unsigned push_hogs_back() noexcept {
  unsigned n = 0;
  std::uint64_t now = now_ns();
  constexpr std::uint64_t ask_ns = 100'000'000;
  spin_guard hold(lock);
  for (M* m = drifting; m; m = m->drift_next) {
    std::uint64_t used = thread_cpu_ns(m->tid) - m->drift_cpu_ns;
    if (!m->background && used > 2'000'000) {
      sched_param none{};
      sched_setscheduler(m->tid, SCHED_IDLE, &none); // refused (a seccomp filter): it competes as before
      m->background = true;
    }
    bool computes = m->computes.load(std::memory_order_relaxed);
    if (used != m->drift_used_ns) {
      computes = computes || m->background;
      m->drift_used_ns = used;
      m->drift_seen = now;
    } else if (computes && now - m->drift_seen > ask_ns) {
      computes = thread_state(m->tid) == 'R';
      m->drift_seen = now;
    }
    m->computes.store(computes, std::memory_order_relaxed);
    n += computes;
  }
  return n;
}

void tell_stalls(std::uint64_t before_ns) noexcept {
  std::uint64_t now = now_ns();
  spin_guard hold(lock);
  for (M* m = drifting; m; m = m->drift_next)
    if (m->drift_since && now - m->drift_since + before_ns >= stall_ns)
      stall_tell(m, now - std::exchange(m->drift_since, 0) + before_ns);
}

M* reacquire(M* m) noexcept {
  G* g = m->g;
  requeue r;
  r.g = g;
  r.last = m->computes.load(std::memory_order_relaxed); // stale: its place in the queue
  r.fn = [](commit_record* c) {
    auto* q = static_cast<requeue*>(c);
    q->last ? inject_last(q->g) : inject(q->g);
  };
  san::release(g);
  record(m, trace::kind::yield, g->id);
  watch_mutexes(g, "its processor went to others");
  bool fp = hooks.load(std::memory_order_relaxed) & hook_fp;
  if (GRT_UNLIKELY(fp)) fp_leave(g);
  switch_to(m, g, m->g0p, commit_of(&r));
  san::acquire(g);
  if (GRT_UNLIKELY(fp)) fp_arrive(g);
  return me();
}

bool rest(M* m) noexcept {
  if (G* g = m->lend) { // picked, and then the P was gone
    m->lend = nullptr;
    inject(g);
  }
  {
    spin_guard hold(lock);
    bool stays = drift_leave(m);
    at_rest.put(m, stays);
    if (!stays) return false;
  }
  if (!at_rest.await_turn_for(m, rest_ns)) return false;
  deny(m);
  return true;
}

namespace detail {

bool blocking_begin() noexcept {
  M* m = me();
  if (!m || m->lost.load(std::memory_order_relaxed) == lost_state::announced) return false;
  if (!enter(m)) return true; // adrift already: the P is another's, and its queues are not ours to look at
  bool others = m->p->next || surplus(m->p) || injected.n.load(std::memory_order_relaxed);
  leave(m); // a thread may be started now
  M* to = !others ? nullptr : m->keeper ? m->lender : any_resting();
  if (!enter(m)) { // adrift since a moment ago
    if (to && !m->keeper) back_to_rest(to);
    return true;
  }
  if (!protocol::step_aside<hardware>(m, to ? lost_state::gone : lost_state::announced)) { // halt.hpp
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
  watch_mutexes(m->g, "blocking"); // also where its processor is still there: that was luck
  lost_state was = protocol::step_back<hardware>(m);
  if (was == lost_state::announced) announced_end();
  if (was == lost_state::gone) reacquire(m);
  set_errno(e);
}

} // namespace detail
} // namespace grt
