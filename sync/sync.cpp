// sync/sync.cpp - the slow paths of mutex and wait_group. The words of their state are explained in grt/sync.hpp.
//
// The woken may destroy the object: the waker's last touch is a release of the state (mutex) or of the lock
// (wait_group), and it makes the goroutines it took out ready afterwards, from a list of its own.
#include <grt/context.hpp>
#include <grt/sync.hpp>

#include <optional>
#include <stdexcept>
#include <type_traits>

#include "sched/sched.hpp"
#include "sched/timed.hpp"

namespace grt {
namespace {
constexpr std::uint64_t starve_ns = 1000000;

// Spinning pays only when this processor has nothing else to run and the holder runs on another.
bool may_spin() noexcept {
  M* m = me();
  if (n_procs.load(std::memory_order_relaxed) == 1) return false;
  return !m || (!m->p->next && !surplus(m->p));
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
    std::uint32_t s = state_.load(std::memory_order_relaxed);
    if (!(s & locked) && (!(s & starving) || since)) {
      if (state_.compare_exchange_weak(s, s | locked, std::memory_order_acquire, std::memory_order_relaxed))
        return end(true); // [MUTEX-1]
      continue;
    }
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
    std::uint32_t want = queued | (now_ns() - since > starve_ns ? starving : 0);
    queue_lock_.lock();
    queue_lock_.tsan_acquire();
    if constexpr (limited) {
      if (timed && timed->expired) {
        queue_lock_.tsan_release();
        queue_lock_.unlock();
        return end(false);
      }
    }
    s = state_.fetch_or(want, std::memory_order_acq_rel); // [MUTEX-1] from here an unlock comes by queue_lock_
    if (!(s & locked)) {                                  // it was unlocked meanwhile
      if (queue_.empty()) state_.fetch_and(~(queued | starving), std::memory_order_relaxed);
      queue_lock_.tsan_release();
      queue_lock_.unlock();
      continue;
    }
    g->w.sel = nullptr;
    g->ok = ok_waiting;
    queue_.push(&g->w);
    if (want & starving) { // who has waited longest stands first
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
    if (g->ok) return end(true); // handed over, still locked
    spins = 0;
  }
}

template bool mutex::lock_slow<false>(std::int64_t, detail::ending*);
template bool mutex::lock_slow<true>(std::int64_t, detail::ending*);

GRT_NOINLINE void mutex::unlock_slow() noexcept {
  queue_lock_.lock();
  queue_lock_.tsan_acquire();
  std::uint32_t s = state_.load(std::memory_order_relaxed);
  if (!(s & locked)) fatal("unlock of an unlocked grt::mutex");
  detail::waiter* w = queue_.pop();
  if (!w) { // an expired waiter left its flag behind. Whoever queues from here on sets it anew, and must be woken
    state_.fetch_and(~(queued | starving), std::memory_order_relaxed);
    queue_lock_.tsan_release();
    queue_lock_.unlock();
    return unlock();
  }
  std::uint32_t drop = locked;
  bool hand_over = s & starving;
  if (queue_.empty()) drop |= queued | starving;
  else if (hand_over) drop |= starving; // the next in the queue judges for itself
  if (hand_over) drop &= ~locked;
  G* g = g_of(w);
  g->ok = hand_over;
  // With the lock still set nobody can own, and so destroy, this mutex: the queue lock goes first, the state last. Who
  // queues in between is woken by g, which comes by.
  if (hand_over) {
    state_.fetch_and(~drop, std::memory_order_release); // [MUTEX-1] ours to touch until ready()
    queue_lock_.unlock();
    return ready(g);
  }
  state_.fetch_and(~(drop & ~locked), std::memory_order_relaxed);
  queue_lock_.unlock();
  state_.fetch_and(~locked, std::memory_order_release); // [MUTEX-1] last touch
  ready_tail(g);
}

void mutex::lock(const context& ctx) {
  detail::ending* e = detail::check_ending(ctx);
  if (!try_lock() && !lock_slow<true>(-1, e)) detail::throw_ended(*e);
}

void mutex::destroyed_locked() noexcept { fatal("a locked grt::mutex is destroyed"); }

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
  // Down to zero with waiters: under the lock, so that the lock is the last thing a waiter that leaves early can depend
  // on.
  lock_.lock();
  lock_.tsan_acquire();
  s = state_.load(std::memory_order_relaxed);
  do {
    if (static_cast<std::int64_t>(s >> 32) + n < 0) {
      lock_.unlock();
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
  lock_.unlock(); // last touch
  while (list) {
    G* g = g_of(list);
    list = list->next;
    ready(g);
  }
}

bool wait_group::wait_ns(std::int64_t timeout_ns, detail::ending* ctx) {
  if (!(state_.load(std::memory_order_acquire) >> 32)) { // [WG-1]
    // The last add may still be on its way out of lock_ for other waiters: wait for it, so that we may be destroyed.
    if (GRT_UNLIKELY(__atomic_load_n(&lock_.word, __ATOMIC_ACQUIRE))) { // [SPIN-1]
      lock_.lock();
      lock_.unlock();
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
  lock_.lock();
  lock_.tsan_acquire();
  std::uint64_t s = state_.fetch_add(1, std::memory_order_acq_rel); // [WG-1] from here a fall to zero goes by lock_
  if (!(s >> 32) || (timed && timed->expired)) {
    state_.fetch_sub(1, std::memory_order_relaxed);
    lock_.tsan_release();
    lock_.unlock();
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

void wait_group::destroyed_waited() noexcept { fatal("a grt::wait_group is destroyed while it is waited on"); }

} // namespace grt
