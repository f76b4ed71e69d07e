// sched/core/idle.cpp - what an M does with nothing to do, and who wakes it.
//
// Promise: if a goroutine is waiting beside a running one and an M is idle, some M searches, or will search at the next
// surplus push, or looks within 10 ms. The list of sleepers, its one `watcher` and its `leader`, and why every surplus
// push is seen by the producer or by the sleeper [WATCH-1]: sched/protocol/sleep.hpp.
//
// What the sleeper's last look sees it need not take: stealable() (steal.cpp) says no at the first sight of a P since
// that last switched, and to goroutines that have waited for less than 40 us, because a P that switches runs its queue
// faster than a thief gets it. So a push just before that look may be left to the leader's poll. The global queue and
// the timers are looked at exactly.
// Rejected: an exact last look. Under ping-pong some P has a `next` at almost any moment, and no M would ever sleep.
// Who is what:
//
//   watcher  an M that has run out of work while nobody else watches, or a sleeper: a producer that sees need_watch
//            wakes one and makes it the watcher on the spot, so the next producer sees 0. It spins 20 us (60, if a
//            hand-over woke it: a thief takes nothing younger than 40), then looks every 50 us for 5 ms while any other
//            M runs, then resigns and sleeps. Having found work it resigns, too, and with more than it can run wakes
//            the next: so a crowd wakes one by one.
//   leader   one that sleeps, with the time-out of the earliest timer. While any other M runs it looks every 1 to 10 ms
//            as well, which finds what no surplus push announced; else every 100 ms, while that may find a deadlock.
//            It may have gone to sleep for good before that M ran. But the first M that leaves a list of all wakes a
//            second one, to watch; that one is the leader, or tells the leader when it goes back to sleep.
//   retired  its P is beyond procs: it sleeps in no list until set_procs wakes it.
//
// Rejected: wake at every ready() (Go; a futex storm on hand-overs), a counter of searching Ms (one more locked line on
// every push).
#include <algorithm>
#include <utility>

#include <sys/prctl.h>

#include "base/futex.hpp"
#include "sched/core/fair.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/poller.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/monitor/pace.hpp"
#include "sched/protocol/handoff.hpp"
#include "sched/protocol/held.hpp"
#include "sched/runtime/faults.hpp"
#include "sched/time/timers.hpp"
#include "stack/reclaim.hpp"

namespace grt {

alignas(128) std::atomic<std::uint32_t> need_watch{0};
alignas(128) std::atomic<bool> hand_over_wakes{false};

namespace {
constexpr poller null_poller{
    .wait = [](std::int64_t) noexcept -> G* { return nullptr; },
    .interrupt = []() noexcept {},
    .armed = []() noexcept { return false; },
};
}
namespace {
std::atomic<const poller*> the_poller{&null_poller};
}
const poller& current_poller() noexcept { return *the_poller.load(std::memory_order_acquire); } // [PORT-1]
void set_poller(const poller& p) noexcept { the_poller.store(&p, std::memory_order_release); }  // [PORT-1]

namespace {
struct poller_port {
  void interrupt() noexcept { current_poller().interrupt(); }
} port;

constexpr std::uint64_t spin_us = 20, spin_handed_us = 60 /* over age_us */, watch_us = 50, watch_total_us = 5000,
                        poll_us_min = 1000, poll_us_max = 10000;
using protocol::awake, protocol::deep, protocol::napping;

protocol::sleepers<hardware, M, poller_port> idle{need_watch, port};
unsigned retired = 0; // under idle.lock: asleep because procs shrank, not in the list

// Under idle.lock (sysmon.cpp): it sleeps until the list is empty; or rests, until anybody leaves it.
bool sysmon_sleeps_now = false, sysmon_rests_now = false;

// After somebody has left the list.
void has_left() noexcept {
  {
    spin_guard hold(idle.lock);
    if (GRT_LIKELY(!sysmon_sleeps_now || (idle.n && !sysmon_rests_now))) return;
    sysmon_sleeps_now = sysmon_rests_now = false;
  }
  sysmon_rouse();
}

// A goroutine handed over by one that computes on waits for a thief; one handed over by one that parks next does not,
// and a wake for it is lost. Nobody knows which it is. So a hand-over wakes a sleeper, and a wake that found nothing
// keeps the next ones from it: for 5 ms, and twice as long each time up to a second; the leader, who polls then, allows
// it again. A pair that plays ping-pong thus pays for one wake a second. Hints, all of them.
struct {
  std::atomic<bool> paying{false};
  std::atomic<std::uint64_t> deaf_ns{0}, deaf_until{0};

  void allow() noexcept {
    if (n_procs.load(std::memory_order_relaxed) > 1 && now_ns() >= deaf_until.load(std::memory_order_relaxed))
      hand_over_wakes.store(true, std::memory_order_relaxed);
  }
  void paid(bool found) noexcept {
    if (GRT_LIKELY(!paying.load(std::memory_order_relaxed)) || !paying.exchange(false, std::memory_order_relaxed))
      return;
    constexpr std::uint64_t least = 5'000'000, most = 1'000'000'000;
    std::uint64_t ns = found ? 0 : std::clamp(2 * deaf_ns.load(std::memory_order_relaxed), least, most);
    deaf_ns.store(ns, std::memory_order_relaxed);
    deaf_until.store(found ? 0 : now_ns() + ns, std::memory_order_relaxed);
  }
} hand_over;

void resign(bool chain) noexcept {
  idle.resign();
  if (chain) notify();
}

// But for the caller, which is awake (1) or in the list itself (0).
bool somebody_runs(unsigned awake_here) noexcept {
  spin_guard hold(idle.lock);
  return idle.n + retired + awake_here < n_made.load(std::memory_order_relaxed);
}

// The poller is not asked: that costs a system call, and the leader sleeps in it.
bool anything(M* m) noexcept {
  if (injected.n.load(std::memory_order_relaxed) || timers_due()) return true;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) // [PROCS-1]
    if (stealable(m, all_p[i].load(std::memory_order_relaxed))) return true;
  return false;
}

// While it lives, the calling thread's timed waits end in time: from the first begin() on, its timer slack is 1 ns. On
// g0 alone, never while a goroutine runs: a child process or a thread made there would inherit it. The destructor goes
// back to what the thread was made with.
class punctual {
public:
  punctual() noexcept = default;
  punctual(const punctual&) = delete;
  punctual& operator=(const punctual&) = delete;
  ~punctual() { // all arguments are given: Valgrind looks at them
    if (began_) prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0);
  }
  void begin() noexcept {
    if (!std::exchange(began_, true)) prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  }

private:
  bool began_ = false;
};

enum class sleeps_in { futex, poller };

// The one place where an M sleeps on g0: until its `asleep` is not `expected` any more, or `ns` are over (-1: never).
// In the poller also until an event; the goroutines that it brings are put into the queue of m's P, and the answer is
// true. Only the leader may ask for the poller.
bool park_thread(M* m, protocol::asleep_state expected, std::int64_t ns, punctual& waits,
                 sleeps_in where = sleeps_in::futex) noexcept {
  GRT_DCHECK(m == me() && m->g == m->g0p && m->in.load(std::memory_order_relaxed), "only g0 sleeps");
  if (ns == 0) return false;
  if (ns > 0) waits.begin();
  if (where == sleeps_in::futex || !idle.enter_poller(m)) {
    futex_wait(&m->asleep, expected, ns);
    return false;
  }
  G* list = current_poller().wait(ns);
  idle.leave_poller(m);
  for (G* g; (g = list);) {
    list = g->link;
    san::release(g);
    becomes_runnable(g);
    m->p->queue.push(g);
  }
  return !m->p->queue.empty();
}

bool watch(M* m) noexcept {
  punctual waits;
  std::uint64_t us = cycles_per_us.load(std::memory_order_relaxed), t0 = arch::cycles();
  std::uint64_t spin = hand_over.paying.load(std::memory_order_relaxed) ? spin_handed_us : spin_us;
  while (arch::cycles() - t0 < spin * us) {
    if (hunt(m) || timers_due()) return true;
    for (int i = 0; i < 24; i++) arch::relax();
  }
  for (std::uint64_t spent = 0; spent < watch_total_us && somebody_runs(1); spent += watch_us) {
    m->asleep.store(napping, std::memory_order_relaxed);
    park_thread(m, napping, watch_us * 1000, waits);
    m->asleep.store(awake, std::memory_order_relaxed);
    for (int look = 0; look < 3; look++) { // the second look knows what the first saw
      if (hunt(m) || timers_due()) return true;
      std::uint64_t t1 = arch::cycles();
      while (arch::cycles() - t1 < 5 * us / 2) arch::relax();
    }
  }
  return false;
}

// Before it sleeps.
void give_back(P* p) noexcept {
  stack::give_back(p->stacks);
  g_give_back(p);
  p->queue.trim();
}

// Returns when there may be something to do.
void sleep(M* m) noexcept {
  record(m, trace::kind::sleep, 0);
  give_back(m->p);
  idle.line_up(m);
  hand_over.allow();
  if (anything(m) && idle.withdraw(m)) return has_left();
  if (somebody_runs(0)) idle.timer_added(now_ns() + poll_us_max * 1000); // a leader that does not poll yet begins to
  punctual waits;
  for (std::uint64_t poll_us = poll_us_min; !idle.woken(m);) {
    if (!idle.leads(m)) {
      park_thread(m, deep, -1, waits);
      deny(m);
      continue;
    }
    std::uint64_t now = now_ns(), until = timers_next(), busy = somebody_runs(0);
    if (busy) until = std::min(until, now + poll_us * 1000);
    else if (deadlock_possible()) until = std::min(until, now + pace.deadlock_ns.load(std::memory_order_relaxed));
    bool polls = current_poller().armed();
    if (!idle.will_sleep_until(m, until, !polls)) continue;
    if (timers_next() < until || (until == wheel::never && deadlock_possible())) continue;
    if (!polls && current_poller().armed()) continue; // [ARM-1]
    std::int64_t ns = until == wheel::never ? -1 : static_cast<std::int64_t>(std::max(until, now) - now);
    bool found = park_thread(m, deep, ns, waits, polls ? sleeps_in::poller : sleeps_in::futex);
    deny(m);
    hand_over.allow();
    if ((found || anything(m)) && idle.withdraw(m)) {
      has_left();
      break;
    }
    if (!busy) deadlock_check(m->asleep.load(std::memory_order_relaxed) != awake);
    poll_us = std::min(poll_us * 2, poll_us_max);
  }
  record(m, trace::kind::wake, 0);
}
} // namespace

std::atomic<unsigned> announced_ps{0};

// need_watch is a hint here, and the sleepers' next change takes it back: sysmon looks by itself before long.
void announced_begin() noexcept {
  announced_ps.fetch_add(1, std::memory_order_relaxed);
  need_watch.store(1, std::memory_order_relaxed);
}
void announced_end() noexcept { announced_ps.fetch_sub(1, std::memory_order_relaxed); }

bool somebody_idles() noexcept {
  spin_guard hold(idle.lock);
  return idle.n || idle.watcher;
}

bool sysmon_sleeps() noexcept {
  spin_guard hold(idle.lock);
  return sysmon_sleeps_now = idle.n;
}

bool sysmon_rests() noexcept {
  spin_guard hold(idle.lock);
  return sysmon_rests_now = sysmon_sleeps_now && idle.n + retired >= n_made.load(std::memory_order_relaxed);
}

std::uint64_t wake_epoch() noexcept {
  held_guard hold(idle.lock);
  return idle.left;
}

unsigned sleeping_ms() noexcept {
  held_guard hold(idle.lock);
  return idle.n + retired;
}

std::uint64_t wakes() noexcept {
  held_guard hold(idle.lock);
  return idle.wakes;
}

GRT_NOINLINE void wake_watcher() noexcept {
  if (idle.wake_one_to_watch()) has_left();
  else if (announced_ps.load(std::memory_order_relaxed)) sysmon_rouse(); // it takes one of those
}

GRT_NOINLINE void wake_for_hand_over() noexcept {
  hand_over_wakes.store(false, std::memory_order_relaxed);
  if (!need_watch.load(std::memory_order_relaxed)) return; // nobody sleeps, or somebody watches
  hand_over.paying.store(true, std::memory_order_relaxed);
  wake_watcher();
}

void timer_added(std::uint64_t when) noexcept { idle.timer_added(when); }
void poller_armed() noexcept { idle.armed(); }

static void count_retired(int by) noexcept {
  spin_guard hold(idle.lock);
  retired += static_cast<unsigned>(by);
}

// A retired P keeps its M, asleep, until procs grows again; what it had goes to everybody.
static void retire(M* m) noexcept {
  P* p = m->p;
  if (m->woken_as_watcher && idle.become_watcher(m)) resign(true);
  while (p->id >= n_procs.load(std::memory_order_relaxed)) {
    p->queue.drain(inject_inside);
    timers_move(p, all_p[0].load(std::memory_order_relaxed));
    notify();
    give_back(p);
    if (!protocol::may_retire<hardware>(m, p->id, n_procs)) break;
    count_retired(1);
    punctual waits;
    park_thread(m, deep, -1, waits);
    count_retired(-1);
    deny(m);
  }
  m->asleep.store(awake, std::memory_order_relaxed);
}

// Too many compute without a P, and this one's last goroutine became one of them early, for somebody who was woken.
static bool may_start(P* p) noexcept {
  if (GRT_LIKELY(!p->starts_at)) return true;
  if (now_ns() >= p->starts_at) p->starts_at = 0;
  else if (too_many_hogs.load(std::memory_order_relaxed) && !somebody_idles()) return false;
  return true;
}

// The next that has run before, or that a timer has made. Everything goes through g0 meanwhile, so pick() need not
// know. With nothing to do it looks again before long, in no list: those that run out there have the cores.
static G* pick_woken(M* m) noexcept {
  P* p = m->p;
  constexpr std::uint64_t nap_ns = 2'000'000;
  G* g = p->queue.take_next();
  if (!g && p->queue.size(run_queue::of_runq)) {
    g = p->queue.pop_oldest(run_queue::of_runq);
    if (!g->sp) return p->queue.push_fresh(g), nullptr; // a thief's
  }
  if (!g) g = global_pop(m, false);
  if (!g && hunt_woken(m)) return nullptr;
  if (!g) {
    std::uint64_t now = now_ns(), until = std::min({timers_next(), p->starts_at, now + nap_ns});
    punctual waits; // its word stays `awake`: it is in no list, and nobody wakes it
    park_thread(m, awake, static_cast<std::int64_t>(std::max(until, now) - now), waits);
  }
  p->tick++;
  skip_ticks(p, 63 - (p->tick & 63));
  p->tick0 = p->tick;
  p->cycles0 = arch::cycles();
  return g;
}

G* search(M* m) noexcept {
  P* p = m->p;
  for (;;) {
    deny(m);
    if (GRT_UNLIKELY(p->id >= n_procs.load(std::memory_order_relaxed))) retire(m);
    bool fired = timers_due();
    if (fired) timers_run(m);
    stack::age(p->stacks);
    if (GRT_UNLIKELY(stack::guards() == stack::guard_kind::canary) &&
        !(hooks.load(std::memory_order_relaxed) & hook_canary))
      canaries_begin(); // since a window ago
    if (GRT_UNLIKELY(!may_start(p))) {
      if (G* g = pick_woken(m)) return g;
      continue;
    }
    G* g = nullptr;
    if (GRT_UNLIKELY(p->due)) g = front_due(m, fired);
    else if ((p->tick & 63) == 0) g = look_around(m, fired);
    if (!g && !(g = pick(p)))
      g = (p->tick & 63) == 0 ? pick(p) : nullptr; // the 64th tick means look around; that was done
    if (!g) g = global_pop(m);
    if (g) {
      std::uint64_t now = arch::cycles();
      if (p->tick != p->tick0) p->average = static_cast<std::uint32_t>((now - p->cycles0) / (p->tick - p->tick0));
      if (GRT_UNLIKELY(p->due)) skip_ticks(p, 63 - (p->tick & 63)); // the next choice is g0's, too
      p->cycles0 = now;
      p->tick0 = p->tick;
      if (m->woken_as_watcher && idle.become_watcher(m)) {
        hand_over.paid(true);
        resign(true);
      } else if (surplus(p) > 1) {
        notify();
      }
      return g;
    }
    if (hunt(m)) continue;
    if (idle.become_watcher(m)) {
      bool got = n_procs.load(std::memory_order_relaxed) > 1 && watch(m);
      hand_over.paid(got);
      resign(got && surplus(p) > 1);
      if (got) continue;
    }
    sleep(m);
  }
}

} // namespace grt
