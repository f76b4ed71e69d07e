// sched/core/idle.cpp - what an M does when it has nothing to run, and who wakes it.
//
// Promise: if a goroutine waits beside a running one while an M is idle, then some M searches, or will
// search at the next surplus push, or looks within 10 ms. A surplus push is one that leaves more than
// one goroutine waiting on a P. sched/protocol/sleep.hpp has the list of sleepers, its one spinning M
// and its leader. It proves that the producer or the sleeper sees every surplus push. [WATCH-1]
//
// The states of an idle M:
//
//   spinning  The one M that searches (in the code: watcher). An M becomes it when it runs out of work
//             and there is no other. Or a producer that sees need_watch wakes a sleeper and makes it the
//             spinning M at once, so the next producer sees need_watch = 0.
//             It spins for 20 us. If a hand-over woke it, it spins for 60 us, because a thief takes no
//             goroutine that has waited for less than 40 us. Then it looks every 50 us for 5 ms, as long
//             as another M runs. Then it resigns and sleeps. It also resigns when it has found work. If
//             that is more than it can run itself, it wakes the next M. So a crowd of goroutines wakes
//             the Ms one by one.
//   leader    The sleeping M whose time-out is the earliest timer. While any other M runs, the leader
//             also looks every 1 to 10 ms. This finds goroutines that no surplus push announced. If no
//             M runs, it looks every 100 ms as long as that may find a deadlock, else not at all.
//             The leader may have gone to sleep for good before another M ran. But the first M that
//             leaves a list in which all Ms sleep wakes a second one to search. The second M then is the
//             leader, or it tells the leader when it goes back to sleep.
//   retired   Its P is not below procs. It sleeps in no list until set_procs wakes it.
//
// The last look of a sleeper need not take what it sees. stealable() (steal.cpp) refuses a P that has
// switched since the last look, and goroutines that have waited for less than 40 us: a P that switches
// runs its queue faster than a thief gets it. So a push just before that look may be left to the leader.
// The global queue and the timers are looked at exactly.
//
// Rejected: an exact last look. Under ping-pong some P has a goroutine in run_next at almost any moment,
// and no M would ever sleep.
// Rejected: a wake-up at every ready(), as in Go. Hand-overs would cause a storm of futex calls.
// Rejected: a counter of searching Ms. Every push would touch one more cache line that others write.
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

constexpr std::uint64_t spin_us = 20, spin_handed_us = 60 /* > age_us */, watch_us = 50, watch_total_us = 5000,
                        poll_us_min = 1000, poll_us_max = 10000;
using protocol::awake, protocol::deep, protocol::napping;

protocol::sleepers<hardware, M, poller_port> idle{need_watch, port};
unsigned retired = 0; // under idle.lock: Ms that sleep because procs shrank, and are not in the list

// Under idle.lock (sysmon.cpp). sysmon sleeps until the list is empty; if it rests, until any M leaves the list.
bool sysmon_sleeps_now = false, sysmon_rests_now = false;

// Call after an M has left the list. Wakes sysmon if that is what it waits for.
void has_left() noexcept {
  {
    spin_guard hold(idle.lock);
    if (GRT_LIKELY(!sysmon_sleeps_now || (idle.n && !sysmon_rests_now))) return;
    sysmon_sleeps_now = sysmon_rests_now = false;
  }
  sysmon_rouse();
}

// Whether to wake an M for a goroutine in run_next (a hand-over). If the waker goes on to compute, another M must
// steal the goroutine. If the waker parks next, as is usual, the wake-up is wasted. We cannot tell the two apart.
// So a hand-over wakes a sleeper. If that M finds nothing, hand-overs wake no M for 5 ms, and for twice as long
// after each further failure, up to one second. Then the leader, which polls, allows it again. So a pair that
// plays ping-pong pays for one wake-up per second. All these words are hints.
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

// Does an M run, other than the caller? awake_here: 1 if the caller is awake, 0 if it is in the list itself.
bool somebody_runs(unsigned awake_here) noexcept {
  spin_guard hold(idle.lock);
  return idle.n + retired + awake_here < n_made.load(std::memory_order_relaxed);
}

// Is there anything to do? Does not ask the poller: that costs a system call, and the leader sleeps in it.
bool anything(M* m) noexcept {
  if (injected.n.load(std::memory_order_relaxed) || timers_due()) return true;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) // [PROCS-1]
    if (stealable(m, all_p[i].load(std::memory_order_relaxed))) return true;
  return false;
}

// From the first begin() until the destructor, the timer slack of the calling thread is 1 ns, so that its timed
// waits end in time. Use it on g0 only: while a goroutine runs, a new child process or thread would inherit it.
// The destructor restores the slack that the thread was created with.
class punctual {
public:
  punctual() noexcept = default;
  punctual(const punctual&) = delete;
  punctual& operator=(const punctual&) = delete;
  ~punctual() { // all arguments are given, because Valgrind looks at them
    if (began_) prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0);
  }
  void begin() noexcept {
    if (!std::exchange(began_, true)) prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  }

private:
  bool began_ = false;
};

enum class sleeps_in { futex, poller };

// The only function in which an M sleeps on g0. It sleeps until `asleep` differs from `expected`, or until `ns`
// are over (-1: no limit). In the poller it also wakes for an event, and puts the goroutines that the event makes
// runnable into the queue of m's P. Returns whether there were any. Only the leader may ask for the poller.
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
    ready_on_g0(m, g);
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
    for (int look = 0; look < 3; look++) { // a later look can compare with the first
      if (hunt(m) || timers_due()) return true;
      std::uint64_t t1 = arch::cycles();
      while (arch::cycles() - t1 < 5 * us / 2) arch::relax();
    }
  }
  return false;
}

// Before its M sleeps, p gives back the memory that it does not need while idle.
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
  if (somebody_runs(0)) idle.timer_added(now_ns() + poll_us_max * 1000); // so that the leader begins to poll
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

// This store to need_watch is a hint. The next change of the list of sleepers may overwrite it. That does no harm,
// because sysmon soon looks by itself.
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
  else if (announced_ps.load(std::memory_order_relaxed)) sysmon_rouse(); // sysmon takes an announced P
}

GRT_NOINLINE void wake_for_hand_over() noexcept {
  hand_over_wakes.store(false, std::memory_order_relaxed);
  if (!need_watch.load(std::memory_order_relaxed)) return; // no M sleeps, or one searches
  hand_over.paying.store(true, std::memory_order_relaxed);
  wake_watcher();
}

void timer_added(std::uint64_t when) noexcept { idle.timer_added(when); }
void poller_armed() noexcept { idle.armed(); }

static void count_retired(int by) noexcept {
  spin_guard hold(idle.lock);
  retired += static_cast<unsigned>(by);
}

// A retired P keeps its M, which sleeps until procs grows again. Its goroutines go to the global queue, its timers
// to the first P.
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

// May p start goroutines that never ran? Not before starts_at, while too many goroutines compute without a P and no
// M is idle. sysmon sets starts_at when it has detached the goroutine of a P early, because a woken one waited.
static bool may_start(P* p) noexcept {
  if (GRT_LIKELY(!p->starts_at)) return true;
  if (now_ns() >= p->starts_at) p->starts_at = 0;
  else if (too_many_hogs.load(std::memory_order_relaxed) && !somebody_idles()) return false;
  return true;
}

// While p may start no goroutine: the next one that has run before. skip_ticks() sends every choice through g0
// meanwhile, so pick() need not know of this. Without work the M sleeps for a short time, but in no list: the
// goroutines that compute without a P have the cores.
static G* pick_woken(M* m) noexcept {
  P* p = m->p;
  constexpr std::uint64_t nap_ns = 2'000'000;
  G* g = p->queue.take_next();
  if (!g && p->queue.size(run_queue::of_runq)) {
    g = p->queue.pop_oldest(run_queue::of_runq);
    if (!g->sp) return p->queue.push_fresh(g), nullptr; // a thief left it here
  }
  if (!g) g = global_pop(m, false);
  if (!g && hunt_woken(m)) return nullptr;
  if (!g) {
    std::uint64_t now = now_ns(), until = std::min({timers_next(), p->starts_at, now + nap_ns});
    punctual waits; // `asleep` stays awake: the M is in no list, and nobody wakes it
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
      canaries_begin(); // the guards of new windows have just become canaries
    if (GRT_UNLIKELY(!may_start(p))) {
      if (G* g = pick_woken(m)) return g;
      continue;
    }
    G* g = nullptr;
    if (GRT_UNLIKELY(p->due)) g = front_due(m, fired);
    else if ((p->tick & 63) == 0) g = look_around(m, fired);
    if (!g && !(g = pick(p)))
      g = (p->tick & 63) == 0 ? pick(p) : nullptr; // at every 64th tick pick() only says "look around"; that was done
    if (!g) g = global_pop(m);
    if (g) {
      std::uint64_t now = arch::cycles();
      if (p->tick != p->tick0) p->average = static_cast<std::uint32_t>((now - p->cycles0) / (p->tick - p->tick0));
      if (GRT_UNLIKELY(p->due)) skip_ticks(p, 63 - (p->tick & 63)); // g0 makes the next choice, too
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
