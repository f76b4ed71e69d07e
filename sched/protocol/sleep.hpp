// sched/protocol/sleep.hpp - which sleeping M is woken, and how a goroutine parks. Templates over the
// memory (memory.hpp).
//
// Sleepers: watch, submit. The spinning M (in the code: watcher) is the one idle M that searches for
// work. The leader is the one sleeping M whose time-out is the earliest timer. `need_watch` is 1 while
// some M sleeps and no M searches.
//
//   W1  need_watch == (list not empty && !watcher)          exactly, whenever the lock is free
//   W2  list not empty => leader is in it                   so some M wakes for the timers of every P
//
//   [WATCH-1]  sleeper: into the list; membarrier; look for work     producer: push; compiler barrier; read need_watch
//   [TIMER-1]  leader: sleeps_until = t; membarrier; look at timers  timer: insert; compiler barrier; read sleeps_until
//
// One of the two sees the other. Only the producer's side is hot, so the sleeper pays for both.
// A sleeper may see a goroutine in the queue of another P and still leave it there: idle.cpp says when.
// Then the leader finds it, because the leader polls while any M runs.
//
//   M::asleep  set by                               meaning
//   awake      the thread that took the M out of    the M may go on; nothing overwrites this until the M
//              the list                             sleeps again [SLEEP-1]
//   deep       the M itself                         futex_wait may sleep on this value
//   napping    the thread that makes it leader, or  there is news: the M looks again. The M turns it back into
//              timer_added(); both under the lock   deep. The store needs no release: before the M looks, it
//                                                   takes the lock or fences
//   polling    the M itself, when it has the seat   the M sleeps in the poller, not on this word
//
// The poller waits for events from outside the process (sched/core/poller.hpp). It is armed while a
// goroutine waits for such an event. The leader sleeps in the poller while the poller is armed. Every
// change of `asleep` by another thread is an exchange. So that thread knows where the M sleeps, and
// interrupts the poller or wakes the futex. The poller keeps an interrupt until somebody polls, so an
// interrupt that comes too early ends the next poll at once.
//
//   S1  At most one M polls: it has the seat. Otherwise an M that leaves the poller could take the
//       interrupt meant for the next one, which would sleep on with `awake` in its word.
//   S2  A leader that finds the seat taken sleeps on its futex. The M that leaves the seat gives the
//       leader the news.
//   S3  [ARM-1]  leader: `deaf` = 1; membarrier; is the poller armed?   armer: arm; compiler barrier; read `deaf`
//       One of the two sees the other. So no leader sleeps on its futex while the poller is armed.
//
// Park. A goroutine publishes its waiter under a lock. This lock is released only after the registers of
// the goroutine are saved. So a thread that takes the waiter out of its queue under the lock finds a
// goroutine that may run. The switch itself releases the lock (arch/*/switch.S; far_side() does the same
// here). A foreign thread releases it before it waits for its futex word. [SPIN-1] [FGN-1]
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum asleep_state : std::uint32_t { awake, deep, napping, polling };

// ---- Sleepers. An M has `asleep` and `woken_as_watcher`. The lock guards the second while the M is in the
// list; an M that is awake owns it.

/// Caller: a producer, after its push. Returns true if it must call wake_one_to_watch().
template <class A> [[nodiscard]] GRT_INLINE bool must_wake(typename A::template atomic<std::uint32_t>& need_watch) {
  A::compiler_fence(site::notify_fence); // [WATCH-1] the push before need_watch; the sleeper's membarrier is the fence
  return GRT_UNLIKELY(A::load(need_watch, std::memory_order_relaxed) != std::uint32_t{0});
}

/// Poller has the member interrupt(), which any thread may call.
template <class A, class M, class Poller> class sleepers {
  template <class T> using atomic = typename A::template atomic<T>;
  template <class T> using plain = typename A::template plain<T>;
  using guard = typename A::guard;

public:
  constexpr sleepers(atomic<std::uint32_t>& need, Poller& poller) : need_watch_(need), poller_(poller) {}

  typename A::lock lock;
  plain<unsigned> n = 0;
  plain<bool> watcher = false; // there is a spinning M
  plain<M*> leader = nullptr;
  plain<M*> seat = nullptr; // the M that polls, or is on its way into or out of the poller
  plain<bool> seat_wanted = false;
  plain<M*> list[A::sleepers_max]{};
  std::uint64_t left = 0;  // how often a sleeper has left the list, since the start
  std::uint64_t wakes = 0; // how many of those wake_one_to_watch() has woken

  /// Wakes a sleeper and makes it the spinning M, unless there is a spinning M. Returns false if no M sleeps
  /// and no M searches.
  [[nodiscard]] bool wake_one_to_watch() {
    M* m;
    bool somebody;
    {
      guard hold(lock);
      m = watcher ? nullptr : pop();
      somebody = m || watcher;
      if (m) {
        m->woken_as_watcher = true;
        watcher = true;
        wakes++;
      }
      publish();
    }
    if (!m) return somebody;
    wake(m, A::exchange(m->asleep, std::uint32_t{awake}, std::memory_order_release, site::wake)); // [SLEEP-1]
    return true;
  }

  [[nodiscard]] bool become_watcher(M* m) {
    guard hold(lock);
    bool mine = m->woken_as_watcher || !watcher;
    m->woken_as_watcher = false;
    if (mine) watcher = true;
    publish();
    return mine;
  }

  /// Caller: the spinning M, which becomes an ordinary M. If it has seen work that it leaves to others, it
  /// calls must_wake() next.
  void resign() {
    guard hold(lock);
    watcher = false;
    publish();
  }

  /// Puts m into the list. The caller must look for work and timers once more before it sleeps.
  void line_up(M* m) {
    A::store(m->asleep, std::uint32_t{deep}, std::memory_order_relaxed);
    {
      guard hold(lock);
      list[n] = m;
      n = n + 1;
      if (!leader) {
        leader = m;
        A::store(sleeps_until_, std::uint64_t{0}, std::memory_order_relaxed);
        A::store(deaf_, std::uint32_t{0}, std::memory_order_relaxed);
      }
      publish();
    }
    // [WATCH-1] the caller's look sees every push before this fence; a producer after it sees need_watch
    A::all_threads_fence(site::sleep_fence);
  }

  /// m leaves the list by itself. Returns false if another thread took it out and is about to wake it.
  [[nodiscard]] bool withdraw(M* m) {
    M* heir = nullptr;
    std::uint32_t heir_was = 0;
    {
      guard hold(lock);
      unsigned at = 0, last = n;
      while (at < last && list[at] != m) at++;
      if (at == last) return false;
      drop(at);
      if (leader == m) {
        leader = heir = last > 1 ? static_cast<M*>(list[last - 2]) : nullptr; // W2
        A::store(sleeps_until_, std::uint64_t{0}, std::memory_order_relaxed);
        // The heir goes back to sleep, with the time-out. This needs the lock: once the heir is popped, its
        // word is `awake`, which must not be overwritten.
        if (heir) heir_was = A::exchange(heir->asleep, std::uint32_t{napping}, std::memory_order_relaxed);
      }
      publish();
    }
    A::store(m->asleep, std::uint32_t{awake}, std::memory_order_relaxed);
    if (heir) wake(heir, heir_was);
    return true;
  }

  /// Call before each futex_wait(m->asleep, deep). Returns true if another thread has taken m out of the list.
  [[nodiscard]] bool woken(M* m) {
    for (;;) {
      std::uint32_t state = A::load(m->asleep, std::memory_order_acquire, site::sleep_look); // [SLEEP-1]
      if (state != napping) return state == awake;
      // futex_wait expects deep, so a `napping` that is stored later ends it. A compare-and-swap, because a
      // waker's `awake` must not be overwritten.
      if (A::cas(m->asleep, state, std::uint32_t{deep}, std::memory_order_relaxed)) return false;
    }
  }

  [[nodiscard]] bool leads(M* m) {
    guard hold(lock);
    return leader == m;
  }

  /// Caller: the leader, before it looks at the timers and sleeps until `when` at most. `deaf`: it will sleep
  /// on its futex, not in the poller; then it must check after this call that the poller is not armed.
  /// Returns false if m does not lead any more.
  [[nodiscard]] bool will_sleep_until(M* m, std::uint64_t when, bool deaf) {
    {
      guard hold(lock);
      if (leader != m) return false;
      A::store(sleeps_until_, when, std::memory_order_relaxed);
      A::store(deaf_, std::uint32_t{deaf}, std::memory_order_relaxed);
    }
    // [TIMER-1] the caller's look sees a timer added before; a timer added later sees sleeps_until_
    A::all_threads_fence(site::leader_fence); // [ARM-1]
    return true;
  }

  /// Caller: the leader. Returns true if it has the seat and its word is `polling`; it polls and then calls
  /// leave_poller(). Returns false if there is news, or if the seat is taken. In the second case the M that
  /// leaves the seat tells the leader (S2).
  [[nodiscard]] bool enter_poller(M* m) {
    {
      guard hold(lock);
      if (seat) {
        seat_wanted = true;
        return false;
      }
      seat = m;
    }
    std::uint32_t state = deep;
    if (A::cas(m->asleep, state, std::uint32_t{polling}, std::memory_order_relaxed)) return true;
    leave_seat();
    return false;
  }

  /// Call after the poll and before woken(). The poll has taken every interrupt up to now.
  void leave_poller(M* m) {
    std::uint32_t state = polling;
    A::cas(m->asleep, state, std::uint32_t{deep}, std::memory_order_relaxed);
    leave_seat();
  }

  /// Any thread calls this after it has armed the poller.
  GRT_INLINE void armed() {
    A::compiler_fence(site::arm_fence);                                                // [ARM-1] arming before deaf_
    if (A::load(deaf_, std::memory_order_relaxed) != std::uint32_t{0}) hurry_leader(); // [ARM-1]
  }

  /// Any thread calls this after it has inserted a timer.
  GRT_INLINE void timer_added(std::uint64_t when) {
    A::compiler_fence(site::timer_fence);                         // [TIMER-1] the timer before sleeps_until_
    if (when < A::load(sleeps_until_, std::memory_order_relaxed)) // [TIMER-1] 0: no leader, or it is awake
      hurry_leader();
  }

private:
  // W1
  void publish() { A::store(need_watch_, std::uint32_t{n && !watcher}, std::memory_order_relaxed); }

  void drop(unsigned at) {
    n = n - 1;
    list[at] = static_cast<M*>(list[n]);
    left++;
  }

  // The newest sleeper that is not the leader; the leader if it is alone. Null: the list is empty.
  M* pop() {
    if (!n) return nullptr;
    unsigned at = n - 1;
    if (list[at] == leader && n > 1) at--;
    M* m = list[at];
    drop(at);
    if (m == leader) leader = nullptr; // then the list is empty
    return m;
  }

  void hurry_leader() {
    guard hold(lock);
    tell_leader();
  }

  // Caller: holds the lock. The leader looks at the timers and the poller, and sleeps again.
  void tell_leader() {
    M* m = leader;
    if (!m) return;
    A::store(sleeps_until_, std::uint64_t{0}, std::memory_order_relaxed);
    A::store(deaf_, std::uint32_t{0}, std::memory_order_relaxed);
    wake(m, A::exchange(m->asleep, std::uint32_t{napping}, std::memory_order_relaxed));
  }

  void leave_seat() {
    guard hold(lock);
    seat = nullptr;
    if (!seat_wanted) return;
    seat_wanted = false;
    tell_leader();
  }

  // Call after `asleep` has changed from `was`.
  void wake(M* m, std::uint32_t was) {
    if (was == polling) poller_.interrupt();
    else A::futex_wake(m->asleep);
  }

  atomic<std::uint32_t> deaf_{0}; // 1: the leader sleeps on its futex. A stale 1 costs one needless look.
  atomic<std::uint32_t>& need_watch_;
  Poller& poller_;
  // The end of the leader's sleep, in ns. A timer compares with it only after its fence [TIMER-1].
  atomic<std::uint64_t> sleeps_until_{0};
};

// ---- Park

/// What arch/*/switch.S does to the word of a lock after the registers are saved.
template <class A, class Word> GRT_INLINE void far_side(Word& lock_word) {
  A::store(lock_word, std::uint32_t{0}, std::memory_order_release, site::far_side); // [SPIN-1]
}

/// Caller: a foreign thread that holds the lock. Its waiter is published, its word is not.
template <class A, class Word> GRT_INLINE void foreign_publish(Word& word) {
  A::store(word, std::uint32_t{1}, std::memory_order_relaxed); // the release of the lock publishes it
}

/// Caller: the foreign thread, after it has released the lock.
template <class A, class Word> GRT_INLINE void foreign_wait(Word& word) {
  while (A::load(word, std::memory_order_acquire, site::foreign_wait) == std::uint32_t{1}) // [FGN-1]
    A::futex_wait(word, 1);
}

template <class A, class Word> GRT_INLINE void foreign_ready(Word& word) {
  // [FGN-1] from here on the slot may be used again; a futex wake on it does no harm
  A::store(word, std::uint32_t{0}, std::memory_order_release, site::foreign_ready);
  A::futex_wake(word);
}

} // namespace grt::protocol
