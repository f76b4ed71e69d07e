// sched/protocol/sleep.hpp - which sleeping M is woken, and how a goroutine parks, as templates over the memory
// (memory.hpp).
//
// Sleepers: watch, submit. `need_watch` says that somebody sleeps and nobody watches.
//
//   W1  need_watch == (list not empty && !watcher)          exactly, whenever the lock is free
//   W2  list not empty => leader is in it                   so a timer of any P has somebody who wakes for it
//
//   [WATCH-1]  sleeper: into the list; membarrier; look for work     producer: push; compiler barrier; read need_watch
//   [TIMER-1]  leader: sleeps_until = t; membarrier; look at timers  timer: insert; compiler barrier; read sleeps_until
//
// One of the two sees the other. Only the producer's side is hot, so the sleeper pays for both. What the sleeper sees
// of another P's queue it may still leave alone: see the promise in idle.cpp. Then the leader finds it, which polls
// while somebody runs.
//
//   M::asleep  set by                              meaning
//   awake      whoever took it out of the list     it may go; nothing overwrites this until it sleeps again [SLEEP-1]
//   deep       itself                              futex_wait may sleep on it
//   napping    who makes it leader, timer_added;   news: look again; it turns it back into deep. No release: it takes
//              both under the lock                 the lock, or fences, before it looks
//   polling    itself, with the seat               it sleeps in the poller, not on this word
//
// The poller. The leader sleeps in the poller while the poller is armed, that is, while a goroutine waits for something
// outside the process. Every change of `asleep` by another thread is an exchange, so that thread knows where the M
// sleeps: it interrupts the poller or wakes the futex. An interrupt is kept until somebody polls, so one that comes too
// early ends the next poll at once.
//
//   S1  One M at a time polls: it has the seat. Otherwise an M on its way out could take the interrupt meant for the
//       next one, which would sleep on with `awake` in its word.
//   S2  A leader that finds the seat taken sleeps on its futex. Who leaves the seat gives it the news.
//   S3  [ARM-1]  leader: `deaf` = 1; membarrier; is the poller armed?   armer: arm; compiler barrier; read `deaf`
//       One of the two sees the other, so no leader sleeps on its futex beside an armed poller.
//
// Park: the lock under which a waiter was published is released after its registers are saved, by the switch itself
// (arch/*/switch.S; far_side() is what it does) or, for a thread grt did not make, before its futex word is waited for.
// So whoever takes the waiter out of its queue under the lock finds one that may run. [SPIN-1] [FGN-1]
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

enum asleep_state : std::uint32_t { awake, deep, napping, polling };

// ---- Sleepers. An M has `asleep` and `woken_as_watcher` (under the lock, and its own once it is awake).

/// Producer, after its push. true: call wake_one_to_watch().
template <class A> [[nodiscard]] GRT_INLINE bool must_wake(typename A::template atomic<std::uint32_t>& need_watch) {
  A::compiler_fence(site::notify_fence); // [WATCH-1] the push before need_watch; the sleeper's membarrier is the fence
  return GRT_UNLIKELY(A::load(need_watch, std::memory_order_relaxed) != std::uint32_t{0});
}

/// Poller: interrupt(), from any thread.
template <class A, class M, class Poller> class sleepers {
  template <class T> using atomic = typename A::template atomic<T>;
  template <class T> using plain = typename A::template plain<T>;
  using guard = typename A::guard;

public:
  constexpr sleepers(atomic<std::uint32_t>& need, Poller& poller) : need_watch_(need), poller_(poller) {}

  typename A::lock lock;
  plain<unsigned> n = 0;
  plain<bool> watcher = false; // somebody searches or watches
  plain<M*> leader = nullptr;  // the sleeper with a time-out
  plain<M*> seat = nullptr;    // polls, or is on its way in or out
  plain<bool> seat_wanted = false;
  plain<M*> list[A::sleepers_max]{};
  std::uint64_t left = 0;  // sleepers that have left the list, ever
  std::uint64_t wakes = 0; // of those: by wake_one_to_watch()

  /// false: nobody sleeps or watches.
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

  /// The watcher, which becomes an ordinary M. A push it has seen and leaves to others is followed by must_wake().
  void resign() {
    guard hold(lock);
    watcher = false;
    publish();
  }

  /// The caller must look for work, timers too, once more before it sleeps.
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
    // [WATCH-1] a push before it is seen by the caller's look; one after it sees need_watch
    A::all_threads_fence(site::sleep_fence);
  }

  /// Leaves the list by itself. false: somebody else took it out and is about to wake it.
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
        // It goes back to sleep, with the time-out. Under the lock: once it is popped its word says awake, for good.
        if (heir) heir_was = A::exchange(heir->asleep, std::uint32_t{napping}, std::memory_order_relaxed);
      }
      publish();
    }
    A::store(m->asleep, std::uint32_t{awake}, std::memory_order_relaxed);
    if (heir) wake(heir, heir_was);
    return true;
  }

  /// Before each futex_wait(m->asleep, deep). true: it has left the list, woken by somebody.
  [[nodiscard]] bool woken(M* m) {
    for (;;) {
      std::uint32_t state = A::load(m->asleep, std::memory_order_acquire, site::sleep_look); // [SLEEP-1]
      if (state != napping) return state == awake;
      // From here on a new `napping` is news: futex_wait expects deep. A waker's `awake` must not be overwritten.
      if (A::cas(m->asleep, state, std::uint32_t{deep}, std::memory_order_relaxed)) return false;
    }
  }

  [[nodiscard]] bool leads(M* m) {
    guard hold(lock);
    return leader == m;
  }

  /// The leader, before it looks at the timers and sleeps till then at most. `deaf`: not in the poller; then it must
  /// look after this whether the poller is armed. false: it does not lead any more.
  [[nodiscard]] bool will_sleep_until(M* m, std::uint64_t when, bool deaf) {
    {
      guard hold(lock);
      if (leader != m) return false;
      A::store(sleeps_until_, when, std::memory_order_relaxed);
      A::store(deaf_, std::uint32_t{deaf}, std::memory_order_relaxed);
    }
    // [TIMER-1] a timer added before is seen by the caller's look; one added after sees sleeps_until_
    A::all_threads_fence(site::leader_fence); // [ARM-1]
    return true;
  }

  /// The leader. true: it has the seat, and its word says so; it polls and then calls leave_poller(). false: there is
  /// news, or the seat is taken, and who leaves it tells the leader (S2).
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

  /// After the poll, and before woken(). Every interrupt until now has been taken from the poller.
  void leave_poller(M* m) {
    std::uint32_t state = polling;
    A::cas(m->asleep, state, std::uint32_t{deep}, std::memory_order_relaxed);
    leave_seat();
  }

  /// After the poller was armed, by any thread.
  GRT_INLINE void armed() {
    A::compiler_fence(site::arm_fence);                                                // [ARM-1] arming before deaf_
    if (A::load(deaf_, std::memory_order_relaxed) != std::uint32_t{0}) hurry_leader(); // [ARM-1]
  }

  /// After an insert.
  GRT_INLINE void timer_added(std::uint64_t when) {
    A::compiler_fence(site::timer_fence);                         // [TIMER-1] the timer before sleeps_until_
    if (when < A::load(sleeps_until_, std::memory_order_relaxed)) // [TIMER-1] 0: nobody leads, or it has just woken
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

  // The newest sleeper that is not the leader, or the leader.
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

  // The lock is held. It looks at the timers and the poller, and sleeps again.
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

  // After asleep has changed from `was`.
  void wake(M* m, std::uint32_t was) {
    if (was == polling) poller_.interrupt();
    else A::futex_wake(m->asleep);
  }

  atomic<std::uint32_t> deaf_{0}; // the leader sleeps on its futex; stale 1: one look too many
  atomic<std::uint32_t>& need_watch_;
  Poller& poller_;
  atomic<std::uint64_t> sleeps_until_{
      0}; // the leader's time-out, ns; stale: compared with a timer after [TIMER-1] only
};

// ---- Park

/// After the registers are saved. What arch/*/switch.S does, for a lock's word.
template <class A, class Word> GRT_INLINE void far_side(Word& lock_word) {
  A::store(lock_word, std::uint32_t{0}, std::memory_order_release, site::far_side); // [SPIN-1]
}

/// A foreign thread. Lock held; the waiter is published, its word not yet.
template <class A, class Word> GRT_INLINE void foreign_publish(Word& word) {
  A::store(word, std::uint32_t{1}, std::memory_order_relaxed); // published by the release of the lock
}

/// Lock free.
template <class A, class Word> GRT_INLINE void foreign_wait(Word& word) {
  while (A::load(word, std::memory_order_acquire, site::foreign_wait) == std::uint32_t{1}) // [FGN-1]
    A::futex_wait(word, 1);
}

template <class A, class Word> GRT_INLINE void foreign_ready(Word& word) {
  // [FGN-1] from here on the slot may be someone else's: a stray wake is harmless
  A::store(word, std::uint32_t{0}, std::memory_order_release, site::foreign_ready);
  A::futex_wake(word);
}

} // namespace grt::protocol
