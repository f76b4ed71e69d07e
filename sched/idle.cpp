// sched/idle.cpp - what an M does with nothing to do, and who wakes it.
//
// Promise: if a goroutine is waiting beside a running one and an M is idle, some M is searching, or will be at the next
// surplus push. idle.lock guards: the list of sleeping Ms, `watcher` (some M searches or watches), `leader` (the
// sleeper with a time-out: timers, and a slow poll while others run), and the invariant
//     W1  need_watch == (list not empty && !watcher)          exactly, whenever the lock is free
//     W2  list not empty => leader is in it                   so a timer of any P has somebody who wakes for it
// Sleeper: stand in the list, need_watch = 1, unlock; membarrier; look at everything again; sleep.   [WATCH-1]
// Producer: plain push; read need_watch.  One of the two sees the other. Only the producer's side is hot, so the
// sleeper pays for both. A producer that sees need_watch wakes one sleeper and makes it the watcher on the spot, so the
// next producer sees 0. The watcher spins 20 us, then looks every 50 us for 5 ms while any other M runs, then sleeps. A
// watcher that found work resigns and, if it found more than it can run, wakes the next: so a crowd wakes one by one.
// Rejected: wake at every ready() (Go; a futex storm on hand-overs), a counter of searching Ms (one more locked line on
// every push).
#include <algorithm>
#include <utility>

#include "base/futex.hpp"
#include "sched/hooks.hpp"
#include "sched/sched.hpp"
#include "sched/timers.hpp"
#include "stack/reclaim.hpp"

namespace grt {

alignas(128) std::atomic<std::uint32_t> need_watch{0};

namespace {
constexpr std::uint64_t spin_us = 20, watch_us = 50, watch_total_us = 5000, poll_us_min = 1000, poll_us_max = 10000;
enum : std::uint32_t { awake, deep, napping };

struct {
  spin_lock lock;
  M* list[procs_max];
  unsigned n = 0;
  unsigned retired = 0;   // asleep because procs shrank, not in the list
  std::uint64_t left = 0; // sleepers that have left the list, ever
  bool watcher = false;
  M* leader = nullptr;
  std::atomic<std::uint64_t> sleeps_until{0}; // the leader's time-out, ns; never: a new timer must not trust it
} idle;

void publish() noexcept { need_watch.store(idle.n && !idle.watcher, std::memory_order_relaxed); }

void wake(M* m) noexcept {
  m->asleep.store(awake, std::memory_order_release); // [SLEEP-1]
  futex_wake(&m->asleep);
}

// Under lock. Takes the newest sleeper that is not the leader, or the leader.
M* pop_sleeper() noexcept {
  if (!idle.n) return nullptr;
  unsigned at = idle.n - 1;
  if (idle.list[at] == idle.leader && idle.n > 1) at--;
  M* m = idle.list[at];
  idle.list[at] = idle.list[--idle.n];
  idle.left++;
  if (m == idle.leader) idle.leader = nullptr; // then the list is empty
  return m;
}

// Wakes one sleeper as the watcher.
void wake_one_to_watch() noexcept {
  M* m;
  {
    spin_guard hold(idle.lock);
    m = idle.watcher ? nullptr : pop_sleeper();
    if (m) {
      m->woken_as_watcher = true;
      idle.watcher = true;
    }
    publish();
  }
  if (m) wake(m);
}

bool become_watcher(M* m) noexcept {
  spin_guard hold(idle.lock);
  bool mine = m->woken_as_watcher || !idle.watcher;
  m->woken_as_watcher = false;
  if (mine) idle.watcher = true;
  publish();
  return mine;
}

void resign(bool chain) noexcept {
  {
    spin_guard hold(idle.lock);
    idle.watcher = false;
    publish();
  }
  if (chain) notify();
}

bool somebody_runs() noexcept {
  spin_guard hold(idle.lock);
  return idle.n + idle.retired + 1 < n_made.load(std::memory_order_relaxed);
}

bool anything(M* m) noexcept {
  if (injected.n.load(std::memory_order_relaxed) || timers_due()) return true;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) // [PROCS-1]
    if (stealable(m, all_p[i].load(std::memory_order_relaxed))) return true;
  return false;
}

// Leaves the list by itself. false: somebody else took it out and is about to wake it.
bool withdraw(M* m) noexcept {
  M* heir = nullptr;
  {
    spin_guard hold(idle.lock);
    M** end = idle.list + idle.n;
    M** at = std::find(idle.list, end, m);
    if (at == end) return false;
    *at = idle.list[--idle.n];
    idle.left++;
    if (idle.leader == m) {
      idle.leader = heir = idle.n ? idle.list[idle.n - 1] : nullptr; // W2
      idle.sleeps_until.store(0, std::memory_order_relaxed);
      // It goes back to sleep, with the time-out. Under the lock: once it is popped its word says awake, for good.
      if (heir) heir->asleep.store(napping, std::memory_order_release); // [SLEEP-1]
    }
    publish();
  }
  m->asleep.store(awake, std::memory_order_relaxed);
  if (heir) futex_wake(&heir->asleep);
  return true;
}

bool watch(M* m) noexcept {
  std::uint64_t us = cycles_per_us.load(std::memory_order_relaxed), t0 = arch::cycles();
  while (arch::cycles() - t0 < spin_us * us) {
    if (hunt(m) || timers_due()) return true;
    for (int i = 0; i < 24; i++) arch::relax();
  }
  for (std::uint64_t spent = 0; spent < watch_total_us && somebody_runs(); spent += watch_us) {
    m->asleep.store(napping, std::memory_order_relaxed);
    futex_wait(&m->asleep, napping, watch_us * 1000);
    m->asleep.store(awake, std::memory_order_relaxed);
    for (int look = 0; look < 3; look++) { // the second look knows what the first saw
      if (hunt(m) || timers_due()) return true;
      std::uint64_t t1 = arch::cycles();
      while (arch::cycles() - t1 < 5 * us / 2) arch::relax();
    }
  }
  return false;
}

// Returns when there may be something to do.
void sleep(M* m) noexcept {
  record(m, trace::kind::sleep, 0);
  stack::give_back(m->p->stacks);
  m->asleep.store(deep, std::memory_order_relaxed);
  {
    spin_guard hold(idle.lock);
    idle.list[idle.n++] = m;
    if (!idle.leader) {
      idle.leader = m;
      idle.sleeps_until.store(0, std::memory_order_relaxed);
    }
    publish();
  }
  membarrier(); // [WATCH-1] a push before it is seen below; one after it sees need_watch
  if (anything(m) && withdraw(m)) return;
  for (std::uint64_t poll_us = poll_us_min, quiet = 0;; quiet++) {
    std::uint32_t state = m->asleep.load(std::memory_order_acquire); // [SLEEP-1]
    if (state == awake) break;
    // From here on a new `napping` is news: futex_wait below expects deep. A waker's `awake` must not be overwritten.
    if (state == napping && !m->asleep.compare_exchange_strong(state, deep, std::memory_order_relaxed)) continue;
    state = deep;
    bool lead;
    {
      spin_guard hold(idle.lock);
      lead = idle.leader == m;
    }
    if (!lead) {
      futex_wait(&m->asleep, state);
      deny(m);
      continue;
    }
    std::uint64_t now = now_ns(), until = timers_next(), busy = somebody_runs();
    if (busy) until = std::min(until, now + poll_us * 1000);
    else if (deadlock_possible()) until = std::min(until, now + std::uint64_t{100} * 1000000);
    idle.sleeps_until.store(until, std::memory_order_relaxed);
    membarrier(); // [TIMER-1] a timer added before is seen below; one added after sees sleeps_until
    if (timers_next() < until || (until == wheel::never && deadlock_possible())) continue;
    if (until > now) futex_wait(&m->asleep, state, until == wheel::never ? -1 : static_cast<std::int64_t>(until - now));
    deny(m);
    if (anything(m) && withdraw(m)) break;
    if (!busy) deadlock_check(m->asleep.load(std::memory_order_relaxed) != awake);
    poll_us = std::min(poll_us * 2, poll_us_max);
  }
  record(m, trace::kind::wake, 0);
}
} // namespace

std::uint64_t wake_epoch() noexcept {
  spin_guard hold(idle.lock);
  return idle.left;
}

unsigned sleeping_ms() noexcept {
  spin_guard hold(idle.lock);
  return idle.n + idle.retired;
}

GRT_NOINLINE void wake_watcher() noexcept {
  if (M* m = me()) m->wakes++;
  wake_one_to_watch();
}

void timer_added(std::uint64_t when) noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst); // [TIMER-1] the timer before sleeps_until
  if (when >= idle.sleeps_until.load(std::memory_order_relaxed))
    return; // [TIMER-1] 0 while nobody leads or it has just woken
  spin_guard hold(idle.lock);
  if (!idle.leader) return;
  idle.sleeps_until.store(0, std::memory_order_relaxed);
  idle.leader->asleep.store(napping, std::memory_order_release); // [SLEEP-1] it looks at the timers and sleeps again
  futex_wake(&idle.leader->asleep);
}

static void count_retired(int by) noexcept {
  spin_guard hold(idle.lock);
  idle.retired += static_cast<unsigned>(by);
}

// A retired P keeps its M, asleep, until procs grows again; what it had goes to everybody.
static void retire(M* m) noexcept {
  P* p = m->p;
  if (m->woken_as_watcher && become_watcher(m)) resign(true);
  while (p->id >= n_procs.load(std::memory_order_relaxed)) {
    if (p->next) inject_inside(std::exchange(p->next, nullptr));
    while (p->fresh.size()) inject_inside(p->fresh.pop_front());
    while (p->ready.size()) inject_inside(p->ready.pop_front());
    timers_move(p, all_p[0].load(std::memory_order_relaxed));
    notify();
    stack::give_back(p->stacks);
    // [RETIRE-1] then look; set_procs stores the number, then wakes
    m->asleep.exchange(deep, std::memory_order_seq_cst);
    if (p->id < n_procs.load(std::memory_order_seq_cst)) break; // [RETIRE-1]
    count_retired(1);
    futex_wait(&m->asleep, deep);
    count_retired(-1);
    deny(m);
  }
  m->asleep.store(awake, std::memory_order_relaxed);
}

G* search(M* m) noexcept {
  P* p = m->p;
  for (;;) {
    deny(m);
    if (GRT_UNLIKELY(p->id >= n_procs.load(std::memory_order_relaxed))) retire(m);
    if (timers_due()) timers_run(m);
    stack::age(p->stacks);
    if (GRT_UNLIKELY(stack::guards() == stack::guard_kind::canary) &&
        !(hooks.load(std::memory_order_relaxed) & hook_canary))
      hooks.fetch_or(hook_canary, std::memory_order_relaxed); // since a window ago
    G* g = (p->tick & 63) == 0 ? global_pop() : nullptr;
    if (g) p->tick++;
    else if (!(g = pick(p)))
      g = (p->tick & 63) == 0 ? pick(p) : nullptr; // the 64th tick means look around; that was done
    if (!g) g = global_pop();
    if (g) {
      std::uint64_t now = arch::cycles();
      if (p->tick != p->tick0) p->average = static_cast<std::uint32_t>((now - p->cycles0) / (p->tick - p->tick0));
      p->cycles0 = now;
      p->tick0 = p->tick;
      if (m->woken_as_watcher && become_watcher(m)) resign(true);
      else if (surplus(p) > 1) notify();
      return g;
    }
    if (hunt(m)) continue;
    if (become_watcher(m)) {
      bool got = n_procs.load(std::memory_order_relaxed) > 1 && watch(m);
      resign(got && surplus(p) > 1);
      if (got) continue;
    }
    sleep(m);
  }
}

} // namespace grt
