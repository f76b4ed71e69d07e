// sched/monitor/sysmon.cpp - sysmon, the thread that keeps one goroutine from stopping the others.
//
// sysmon is a thread without a P; it runs no goroutines. It inspects every P periodically and intervenes in two ways:
//   hand-off            hand_off() gives the P to another M. The goroutine goes on without a P (handoff.cpp).
//   reschedule request  M::lost = poke makes the owner of the P end its slice: the front of each of its queues runs
//                       next (fair.cpp).
//
// A *hog* is a goroutine that computes without a P. The limit of hogs is 8 * procs. A P is *announced* while its
// goroutine is in blocking(). "M idle" below means an M that holds a P and has nothing to run.
//
//   sysmon sees                                                  sysmon does
//   1  A P stands at the same tick for 10 ms, something could    hand-off; if its thread computes and the limit is
//      run or is due, and no M is idle                           reached, the rule of 60 ms below applies
//   2  A P is announced, it was so at the last look, and no M    hand-off
//      is idle; or an M found work and no M to do it
//   3  The front of a run queue, a fresh queue or a global list, reschedule request
//      or a timer, has waited for 10 ms though the tick moves
//   4  A second has passed                                       a scavenger pass; a look at affinity and quota
//
// The rule of 60 ms. Once the limit of hogs is reached, a P whose goroutine computes is handed off only after 60 ms
// of computing. So crowds of goroutines that compute for less do not become crowds of threads. A woken goroutine or a
// timer does not wait for so long: for them the P is handed off at once, and in return it starts no new goroutine
// until the 60 ms are over (P::starts_at, idle.cpp). A P goes early once in these 60 ms at most, and only while there
// are fewer than 16 times as many hogs as the limit. Either way a P adds one thread in 60 ms. Goroutines that end
// within 60 ms add no more than that, however little of the machine the detached ones get.
//
// How often sysmon looks:
//   every 4 ms   while all Ps are at work
//   every 10 ms  while an M is idle
//   not at all   after 50 ms with an M idle: an idle M steals and fires timers, so nothing can be stuck. The last M
//                that leaves the idle list calls sysmon_rouse().
// The watchdog (stall.cpp) and blocking() shorten these times.
// While it does not look it wakes once a second to give memory back: as long as goroutines switch, and for three
// whole passes more. If every M sleeps after that, sysmon sleeps without a time-out, and the first M that leaves the
// idle list calls sysmon_rouse(): once in some seconds at most. Rejected: waking sysmon on every change from idle to
// busy (a futex wake of 18 us for each request of a quiet server).
#include <grt/runtime.hpp>

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/futex.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/pin.hpp"
#include "sched/core/sched.hpp"
#include "sched/goroutine/slab.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/monitor/pace.hpp"
#include "sched/monitor/scavenge.hpp"
#include "sched/monitor/stall.hpp"
#include "sched/protocol/handoff.hpp"
#include "sched/runtime/faults.hpp"
#include "sched/runtime/halt.hpp"
#include "sched/runtime/procs.hpp"
#include "sched/runtime/threads.hpp"
#include "sched/time/timers.hpp"

namespace grt {
namespace {
constexpr std::uint64_t ms = 1'000'000, slice_ns = 10 * ms, busy_nap = 4 * ms, quiet_nap = 10 * ms, quiet_looks = 5;
constexpr std::uint64_t patience_ns = 60 * ms; // the rule of 60 ms
// Between two steps of a pass of the scavenger. The short one is for when a pass disturbs nobody (scavenger::work).
constexpr std::uint64_t again_ns = 40 * ms, again_idle_ns = 2 * ms;

// What sysmon knows of one queue of a P. `since`: the moment at which this goroutine was first seen at the front, or
// of the last reschedule request for it.
struct front {
  std::uint32_t head;
  std::uint64_t id, since;
};
struct sighting {
  M* m;
  std::uint64_t tick;
  front ready, fresh;
  bool announced;
  std::uint64_t since, cpu_ns;
  bool told;
};
sighting seen[procs_max];
std::uint64_t next_early[procs_max]; // by P: when it may be handed off early again (the rule of 60 ms)
constexpr unsigned early_most = 16;  // early hand-offs end at this many times the limit of hogs
std::atomic<std::uint32_t> calls{0};
struct {
  G* head;
  std::uint64_t since;
} global_woken, global_to_start;

// Sends a reschedule request. Returns false if a thief is at work or the P is not `free`; the next look tries again.
bool poke(M* m) noexcept {
  if (!steal_pair.try_lock()) return false;
  lost_state l = lost_state::free;
  bool done = m->lost.compare_exchange_strong(l, lost_state::poke, std::memory_order_acq_rel); // [LOST-1]
  steal_pair.unlock();
  return done;
}

std::uint32_t waiting(const global_queue::list& l) noexcept {
  std::uint32_t popped = racy_read(l.popped); // read first: `popped` must not exceed `pushed`
  return racy_read(l.pushed) - popped;
}

struct look {
  std::uint64_t now = now_ns(), due = timers_next();
  unsigned made = n_made.load(std::memory_order_acquire), hogs = adrift() ? push_hogs_back() : 0; // [PROCS-1]
  unsigned limit = 8 * n_procs.load(std::memory_order_relaxed);
  bool idle = somebody_idles(), called, work;
  std::uint32_t hungry = 0;                                   // how many Ps should serve the global queue or the timers
  bool urgent = due <= now || racy_read(injected.woken.head); // work that does not wait out the 60 ms

  explicit look(bool called) noexcept : called(called), work(injected.n.load(std::memory_order_relaxed) || due <= now) {
    for (unsigned i = 0; i < made && !work; i++) {
      work = !all_p[i].load(std::memory_order_relaxed)->queue.racy_empty();
    }
    too_many_hogs.store(hogs >= limit, std::memory_order_relaxed);
    if (stands(global_woken, injected.woken)) hungry += waiting(injected.woken);
    if (stands(global_to_start, injected.to_start)) hungry += waiting(injected.to_start);
    hungry += due != wheel::never && now >= due && now - due >= slice_ns;
    for (unsigned i = 0; i < made; i++) look_at(i);
    if (GRT_UNLIKELY(stall_ns)) tell_stalls(slice_ns);
  }

  // Has the front of a global list been there for a slice?
  template <class S> bool stands(S& seen, const global_queue::list& l) const noexcept {
    G* head = racy_read(l.head);
    if (std::exchange(seen.head, head) != head || !head) seen.since = now;
    return head && now - seen.since >= slice_ns;
  }

  // Has the front of a P's queue been there for a slice? The position `head` alone does not tell: in `fresh` it stays
  // the same while only the newest run, also if the queue was empty in between. So the id of the goroutine there is
  // compared as well. A long queue, whose front is not exact, was hardly empty in between.
  bool stands(front& seen, run_queue::front at) const noexcept {
    std::uint64_t id = at.exact && at.oldest ? racy_read(at.oldest->id) : 0;
    bool empty = !at.n || static_cast<std::int32_t>(at.n) < 0;
    if (empty || at.head != seen.head || id != seen.id) seen = {at.head, id, now};
    return now - seen.since >= slice_ns;
  }

  void look_at(unsigned i) noexcept {
    P* p = all_p[i].load(std::memory_order_relaxed);
    sighting& s = seen[i];
    M* m = protocol::holder_of<hardware>(p);
    std::uint64_t tick = racy_read(p->tick);
    bool waits = stands(s.ready, p->queue.racy_front(run_queue::of_runq));
    waits |= stands(s.fresh, p->queue.racy_front(run_queue::of_fresh));
    bool announced = m->lost.load(std::memory_order_relaxed) == lost_state::announced;
    if (m != s.m || tick != s.tick || announced != s.announced || racy_read(m->g) == m->g0p) {
      bool called_for = announced && called && work && !idle;
      if (m == s.m && tick != s.tick && (hungry || waits) && poke(m)) {
        if (hungry) hungry--;
        s.ready.since = s.fresh.since = now; // count again: the P needs time to serve the request
      }
      s = {m, tick, s.ready, s.fresh, announced, now, 0, false};
      if (called_for) (void)take(i, p, tick, false);
      return;
    }
    if (GRT_UNLIKELY(stall_ns) && !announced && !s.told && now - s.since >= stall_ns) {
      s.told = true;
      stall_tell(m, now - s.since);
    }
    if (idle) return;
    if (announced) return void(take(i, p, tick, false));
    if (!s.cpu_ns) s.cpu_ns = std::max<std::uint64_t>(thread_cpu_ns(m->tid), 1);
    if (!work || now - s.since < slice_ns) return;
    char state = thread_state(m->tid);
    bool computes = state == 'R';
    // A thread that got no core did not use up its slice, so its P stays - for 100 ms at most, because others wait.
    std::uint64_t used = computes ? thread_cpu_ns(m->tid) - s.cpu_ns : 0;
    if (computes && now - s.since < 10 * slice_ns && used < slice_ns / 4) return;
    if (!computes || hogs < limit) return void(take(i, p, tick, computes));
    (void)poke(m); // no hand-off yet: at least the P runs its oldest goroutine next
    warn();
    std::uint64_t held = now - s.since;
    if (used >= patience_ns) return void(take(i, p, tick, true));
    bool here = p->queue.racy_has_woken();
    if (!urgent && !here) return;
    if (held >= 2 * patience_ns) return void(take(i, p, tick, true)); // the thread may have got no core
    if (hogs >= early_most * limit || now < next_early[i] || racy_read(p->starts_at)) return;
    std::uint64_t until = std::max(s.since + patience_ns, now + patience_ns - slice_ns);
    if (!take(i, p, tick, true, until)) return;
    next_early[i] = until;
    if (!here) urgent = false; // one P is enough for what is urgent
  }

  bool take(unsigned i, P* p, std::uint64_t tick, bool computes, std::uint64_t starts_at = 0) noexcept {
    if (computes && hogs + 1 >= limit) too_many_hogs.store(true, std::memory_order_relaxed); // its new M reads this
    if (!hand_off(p, tick, computes, starts_at)) return false;
    hogs += computes;
    seen[i] = {};
    return true;
  }

  void warn() const noexcept {
    static bool warned;
    if (warned) return;
    warned = true;
    text_out(2)
        .str("grt: warning: ")
        .dec(hogs)
        .str(" goroutines have each computed for over 10 ms without a scheduling point; further ones keep their "
             "processors for 60 ms unless somebody waits. Call grt::yield() in long loops.\n");
  }
};

std::uint64_t switches() noexcept {
  std::uint64_t sum = 0;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) // [PROCS-1]
    sum += racy_read(all_p[i].load(std::memory_order_relaxed)->tick);
  return sum;
}

// Runs the passes of the scavenger. After the last switch of any goroutine three more whole passes follow.
struct scavenger {
  std::uint64_t next = 0, seen = 0;
  unsigned left = 0;

  bool needed(bool idle) noexcept {
    if (std::uint64_t n = switches(); std::exchange(seen, n) != n || !idle) left = 3;
    return left;
  }

  void work(std::uint64_t now, bool idle) noexcept {
    if (now < next) return;
    follow_cpus();
    next = now + pace.pass_ns.load(std::memory_order_relaxed);
    if (!needed(idle)) return;
    pass p = scavenge();
    if (p == pass::whole) left--;
    if (p != pass::under_way) return;
    // Dropping pages interrupts every core that runs this process (TLB shootdowns), and takes the time of the only
    // core where there is one. So a pass goes slowly while an M is awake - unless a sort of free slots is under way,
    // because a spawn may be waiting for it (slab.cpp).
    bool disturbs = sleeping_ms() < n_made.load(std::memory_order_relaxed);
    next = now + (disturbs && !slab_sorting() ? again_ns : again_idle_ns);
  }
};

void* sysmon_main(void*) {
  prctl(PR_SET_NAME, "grt-sysmon");
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  std::uint32_t answered = calls.load(std::memory_order_relaxed);
  scavenger pages{now_ns() + pace.pass_ns.load(std::memory_order_relaxed)};
  for (std::uint64_t quiet = 0;;) {
    if (GRT_UNLIKELY(halted.load(std::memory_order_relaxed))) watch_exit();
    std::uint32_t n = calls.load(std::memory_order_acquire); // [SYSMON-1]
    check_running();
    if (injected.returned.load(std::memory_order_relaxed)) notify(); // [RETURN-1] a hint; an M that looks reads n
    look l(n != answered);
    answered = n;
    pages.work(l.now, l.idle);
    quiet = l.idle && !stall_ns ? quiet + 1 : 0; // with the watchdog, sysmon never stops looking
    if (quiet >= quiet_looks && sysmon_sleeps()) {
      while (calls.load(std::memory_order_relaxed) == n) {
        check_running();
        pages.work(now_ns(), true);
        std::uint64_t now = now_ns(), until = std::max(pages.next, now + ms);
        // In this order: once sysmon_rests() is true, an M that leaves the list calls sysmon_rouse(). So a switch
        // that needed() does not see will wake us.
        bool rest = !pages.left && sysmon_rests() && !pages.needed(true);
        futex_wait(&calls, n, rest ? -1 : static_cast<std::int64_t>(until - now));
      }
      quiet = 0;
      continue;
    }
    std::uint64_t ns = l.idle ? quiet_nap : busy_nap;
    if (GRT_UNLIKELY(stall_ns)) ns = std::min(ns, std::max(stall_ns / 4, ms));
    if (announced_ps.load(std::memory_order_relaxed) && l.due > l.now) ns = std::min(ns, l.due - l.now);
    futex_wait(&calls, n, static_cast<std::int64_t>(ns));
  }
}
} // namespace

std::atomic<bool> too_many_hogs{false};

int sysmon_start() noexcept { return thread_start(sysmon_main, nullptr); }

void sysmon_rouse() noexcept {
  calls.fetch_add(1, std::memory_order_release); // [SYSMON-1] sysmon sees what the caller did before
  futex_wake(&calls);
}

} // namespace grt
