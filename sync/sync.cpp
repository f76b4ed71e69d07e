// sync/sync.cpp - the slow paths of mutex and wait_group. grt/mutex.hpp and grt/wait_group.hpp explain the words of their state.
//
// A waker must not access the object after releasing it, because a woken goroutine may already have destroyed it. The
// release is that of the state (mutex) or of the lock (wait_group). The waker takes the goroutines out of the queue
// before that, and makes them ready afterwards, from a list of its own.
#include <grt/context.hpp>
#include <grt/sync.hpp>

#include <optional>
#include <stdexcept>
#include <type_traits>

#include "sched/core/sched.hpp"
#include "sched/runtime/halt.hpp"
#include "sched/wait/timed.hpp"
#include "sync/protocol_mutex.hpp"

namespace grt {
namespace {
constexpr std::uint64_t starve_ns = 1000000; // 1 ms, which grt/mutex.hpp promises

// Spinning pays only if this P has nothing else to run and the holder runs on another P.
bool may_spin() noexcept {
  M* m = me();
  if (n_procs.load(std::memory_order_relaxed) == 1) return false;
  return !m || m->p->queue.empty();
}
} // namespace

template <bool limited> GRT_NOINLINE bool mutex::lock_slow(std::int64_t timeout_ns, detail::ending* ctx) {
  std::uint64_t since = 0;
  std::conditional_t<limited, std::optional<timed_wait>, bool> timed{};
  auto end = [&](bool locked) {
    if constexpr (limited)
      if (timed) timed->disarm();
    return locked;
  };
  for (int spins = 0;;) {
    std::uint32_t s;
    if (protocol::take_free<hardware>(state_, since != 0, s)) return end(true);
    if (limited && timeout_ns == 0) return false;
    if (!(s & starving) && spins < 4 && may_spin()) {
      for (int i = 0; i < 30; i++) arch::relax();
      spins++;
      continue;
    }
    G* g = self();
    if (!since) since = now_ns();
    if constexpr (limited) {
      if (limit to{timeout_ns, ctx}; to && !timed) {
        timed.emplace();
        timed->g = g;
        timed->lock = &queue_lock_;
        timed->queue = &queue_;
        timed->arm(to);
      }
    }
    bool starves = now_ns() - since > starve_ns;
    hold();
    queue_lock_.lock();
    queue_lock_.tsan_acquire();
    if constexpr (limited) {
      if (timed && timed->expired) {
        queue_lock_.tsan_release();
        queue_lock_.unlock();
        let_loose();
        return end(false);
      }
    }
    if (!protocol::must_queue<hardware>(state_, queue_, starves)) { // unlocked meanwhile
      queue_lock_.tsan_release();
      queue_lock_.unlock();
      let_loose();
      continue;
    }
    g->w.sel = nullptr;
    g->ok = ok_waiting;
    queue_.push(&g->w);
    if (starves) { // it has waited longest, so it goes to the front
      queue_.remove(&g->w);
      g->w.prev = nullptr;
      g->w.next = queue_.head;
      (queue_.head ? queue_.head->prev : queue_.tail) = &g->w;
      queue_.head = &g->w;
    }
    queue_lock_.tsan_release();
    park(g, release_of(&queue_lock_), wait_reason::mutex, this);
    // An expired waiter may leave `queued` or `starving` set over an empty queue: one slow unlock clears them.
    if (limited && g->ok == ok_expired) return end(false);
    if (g->ok) return end(true); // handed over: still locked, and now ours
    spins = 0;
  }
}

template bool mutex::lock_slow<false>(std::int64_t, detail::ending*);
template bool mutex::lock_slow<true>(std::int64_t, detail::ending*);

GRT_NOINLINE void mutex::unlock_slow() noexcept {
  hold();
  queue_lock_.lock();
  queue_lock_.tsan_acquire();
  if (!(state_.load(std::memory_order_relaxed) & locked)) fatal("unlock of an unlocked grt::mutex");
  bool hand_over = false;
  auto told = [&](detail::waiter* w, bool over) { g_of(w)->ok = hand_over = over; };
  auto unlocks = [this] {
    queue_lock_.tsan_release();
    queue_lock_.unlock();
  };
  detail::waiter* w = protocol::unlock_slow<hardware>(state_, queue_, told, unlocks);
  let_loose();
  if (!w) return unlock(); // an expired waiter had left `queued` set
  // The mutex was released: it may be gone by now.
  hand_over ? ready(g_of(w)) : ready_tail(g_of(w));
}

static_assert(protocol::mutex_locked == 1 && protocol::mutex_queued == 2 && protocol::mutex_starving == 4);

void mutex::lock(const context& ctx) {
  detail::ending* e = detail::check_ending(ctx);
  if (!try_lock() && !lock_slow<true>(-1, e)) detail::throw_ended(*e);
}

void mutex::destroyed_locked() noexcept {
  if (!process_ends()) fatal("a locked grt::mutex is destroyed");
}

GRT_NOINLINE void wait_group::add(int n) {
  std::uint64_t s = state_.load(std::memory_order_relaxed);
  for (;;) {
    std::int64_t count = static_cast<std::int64_t>(s >> 32) + n;
    if (count < 0) throw std::logic_error("grt: negative wait_group counter");
    if (count > INT32_MAX) throw std::logic_error("grt: wait_group counter overflow");
    if (!count && static_cast<std::uint32_t>(s)) break;
    // [WG-1]
    if (state_.compare_exchange_weak(s, s + (static_cast<std::uint64_t>(static_cast<std::int64_t>(n)) << 32),
                                     std::memory_order_acq_rel, std::memory_order_relaxed))
      return;
  }
  // There are waiters, and the count may fall to zero. It falls under the lock only. So a waiter that leaves early, and
  // whose caller may then destroy the object, has to wait for the lock and for nothing else.
  hold();
  lock_.lock();
  lock_.tsan_acquire();
  s = state_.load(std::memory_order_relaxed);
  do {
    if (static_cast<std::int64_t>(s >> 32) + n < 0) {
      lock_.unlock();
      let_loose();
      throw std::logic_error("grt: negative wait_group counter");
    }
    // [WG-1]
  } while (!state_.compare_exchange_weak(s, s + (static_cast<std::uint64_t>(static_cast<std::int64_t>(n)) << 32),
                                         std::memory_order_acq_rel, std::memory_order_relaxed));
  detail::waiter* list = nullptr;
  if (static_cast<std::int64_t>(s >> 32) + n == 0) {
    list = queue_.head;
    for (detail::waiter* w = list; w; w = w->next) g_of(w)->ok = 0;
    queue_ = {};
    state_.fetch_sub(static_cast<std::uint32_t>(s), std::memory_order_relaxed);
  }
  lock_.unlock(); // the last access
  let_loose();
  while (list) {
    G* g = g_of(list);
    list = list->next;
    ready(g);
  }
}

bool wait_group::wait_ns(std::int64_t timeout_ns, detail::ending* ctx) {
  if (!(state_.load(std::memory_order_acquire) >> 32)) { // [WG-1]
    // The last add may still hold lock_, for other waiters. Wait until it is free: our caller may destroy the object.
    if (GRT_UNLIKELY(__atomic_load_n(&lock_.word, __ATOMIC_ACQUIRE))) { // [SPIN-1]
      held_guard wait(lock_);
    }
    return true;
  }
  if (timeout_ns == 0) return false;
  G* g = self();
  std::optional<timed_wait> timed;
  if (limit to{timeout_ns, ctx}; to) {
    timed.emplace();
    timed->g = g;
    timed->lock = &lock_;
    timed->queue = &queue_;
    timed->count = &state_;
    timed->arm(to);
  }
  hold();
  lock_.lock();
  lock_.tsan_acquire();
  std::uint64_t s = state_.fetch_add(1, std::memory_order_acq_rel); // [WG-1] from here on a fall to zero takes lock_
  if (!(s >> 32) || (timed && timed->expired)) {
    state_.fetch_sub(1, std::memory_order_relaxed);
    lock_.tsan_release();
    lock_.unlock();
    let_loose();
  } else {
    g->w.sel = nullptr;
    g->ok = ok_waiting;
    queue_.push(&g->w);
    lock_.tsan_release();
    park(g, release_of(&lock_), wait_reason::wait_group, this);
    s = g->ok == ok_expired ? s : 0;
  }
  if (timed) timed->disarm();
  return !(s >> 32);
}

void wait_group::wait(const context& ctx) {
  detail::ending* e = detail::check_ending(ctx);
  if (!wait_ns(-1, e)) detail::throw_ended(*e);
}

void wait_group::destroyed_waited() noexcept {
  if (!process_ends()) fatal("a grt::wait_group is destroyed while it is waited on");
}

} // namespace grt
