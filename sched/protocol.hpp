// sched/protocol.hpp - who may touch what without a lock, as templates over the memory they run on.
//
// The runtime runs them on std::atomic and membarrier(2) (`hardware`, below); tests/model runs the same text on a
// memory with store buffers and stale loads, through all interleavings, with each site's order or fence taken away in
// turn. Nothing else belongs here: no clock, no queue, no policy of whom to steal from.
// Hand-off and retirement: protocol_handoff.hpp. The scavenger's hold: protocol_held.hpp. Mutex:
// sync/protocol_mutex.hpp.
//
// Bracket: ask, donate, take. M::lost, the word between the owner of a P and whoever wants some of its work:
//
//   state      set by        meaning                                  leaves by
//   free       -             the owner works alone                    thief: -> ask, sysmon: -> poke or take, all under
//                                                                     the lock of all thieves; owner: -> announced,
//                                                                     gone
//   ask        thief         M::thief wants work                      owner, inside: -> grant or -> free (deny)
//                                                                     thief out of patience: -> take
//   grant      owner         it pushes into the thief's rings         owner: -> free
//   take       thief, sysmon the owner may not enter                  who set it: -> what it was before; sysmon: ->
//   gone poke       sysmon        somebody has waited long: look around    owner, inside: -> free; sysmon: -> take
//   announced  owner         it is in a call that may block, whoever  owner: -> free; thief, sysmon: -> take, under the
//                            wants work need not ask                  lock of all thieves
//   gone       sysmon, owner its P is another M's now (handoff.cpp)   the M itself, once its goroutine has left it:
//                                                                     -> free
//
//   owner: in = 1; compiler barrier; read lost            thief: lost = take; membarrier; read in              [BRK-1]
// One of the two sees the other. The thief sees 0: the owner is outside and will wait in answer(), its P is the thief's
// until that stores free. It sees 1: it gives up, the owner answers at its next bracket. The thief is inside its own
// bracket all the while, so nobody takes from it; it may be asked and denies. What passes from hand to hand goes by
// [LOST-1]; what the owner did inside goes to a taker by in = 0 [BRK-1]. A weakly ordered core may read its queues
// ahead of `lost`, as they were before a thief that came and went meanwhile, and then see `free`: there a thief that
// took lets every core fence again, before it lets go, and the owner's look stays a plain load. [BRK-2] Rejected: two
// states (an asker that times out while the owner donates loses the work); a shared ring with a CAS per pop (2 ns each,
// always).
//
// Sleepers: watch, submit. `need_watch` says that somebody sleeps and nobody watches.
//
//   W1  need_watch == (list not empty && !watcher)          exactly, whenever the lock is free
//   W2  list not empty => leader is in it                   so a timer of any P has somebody who wakes for it
//
//   [WATCH-1]  sleeper: into the list; membarrier; look for work     producer: push; compiler barrier; read need_watch
//   [TIMER-1]  leader: sleeps_until = t; membarrier; look at timers  timer: insert; compiler barrier; read sleeps_until
//
// One of the two sees the other. Only the producer's side is hot, so the sleeper pays for both.
//
//   M::asleep  set by                              meaning
//   awake      whoever took it out of the list     it may go; nothing overwrites this until it sleeps again [SLEEP-1]
//   deep       itself                              futex_wait may sleep on it
//   napping    who makes it leader, timer_added;   news: look again; it turns it back into deep. No release: it takes
//              both under the lock                 the lock, or fences, before it looks
//
// Park: the lock under which a waiter was published is released after its registers are saved, by the switch itself
// (arch/*/switch.S; far_side() is what it does) or, for a thread grt did not make, before its futex word is waited for.
// So whoever takes the waiter out of its queue under the lock finds one that may run. [SPIN-1] [FGN-1]
#pragma once
#include <atomic>
#include <cstdint>
#include <sched.h>
#include <type_traits>

#include "arch/arch.hpp"
#include "base/futex.hpp"
#include "base/spin.hpp"

namespace grt::protocol {

enum class lost_state : std::uint32_t { free, ask, grant, take, poke, announced, gone };
enum asleep_state : std::uint32_t { awake, deep, napping };

/// Each order stronger than relaxed and each fence, by name: what the model takes away. Costs nothing at run time.
enum class site : unsigned char {
  none,
  enter_fence,
  enter_lost,  // where loads are in order: for the compiler
  enter_order, // elsewhere
  leave_in,
  answer_fence,
  answer_lost,
  answer_grant,
  answer_done,
  answer_out,
  ask_look,
  ask,
  take,
  take_fence,
  take_in,
  take_publish,
  take_done,
  grant_wait,
  notify_fence,
  sleep_fence,
  sleep_look,
  wake,
  timer_fence,
  leader_fence,
  far_side,
  foreign_wait,
  foreign_ready,
  park_reason, // protocol_held.hpp
  ready_fence,
  hold_fence,
  held_reason,
  held_leave,
  held_let_go,
  give_turn, // protocol_handoff.hpp
  await_turn,
  set_holder,
  holder_of,
  step_back,
  is_back,
  retire_fence,
  procs_fence,
  mutex_lock, // sync/protocol_mutex.hpp, grt/sync.hpp
  mutex_unlock,
  spin_lock, // base/spin.hpp
  spin_unlock,
  count
};

/// The memory of the machine.
struct hardware {
  template <class T> using atomic = std::atomic<T>;
  template <class T> using plain = T;
  using lock = spin_lock;
  using guard = spin_guard;
  static constexpr unsigned sleepers_max = 1024;

  template <class T> static GRT_INLINE T load(const std::atomic<T>& a, std::memory_order o, site = {}) noexcept {
    return a.load(o);
  }
  template <class T> static GRT_INLINE void store(std::atomic<T>& a, T x, std::memory_order o, site = {}) noexcept {
    a.store(x, o);
  }
  template <class T>
  static GRT_INLINE bool cas(std::atomic<T>& a, T& was, T x, std::memory_order o, site = {}) noexcept {
    return a.compare_exchange_strong(was, x, o);
  }
  template <class T> static GRT_INLINE T exchange(std::atomic<T>& a, T x, std::memory_order o, site = {}) noexcept {
    return a.exchange(x, o);
  }
  template <class T> static GRT_INLINE T fetch_or(std::atomic<T>& a, T x, std::memory_order o, site = {}) noexcept {
    return a.fetch_or(x, o);
  }
  template <class T> static GRT_INLINE T fetch_and(std::atomic<T>& a, T x, std::memory_order o, site = {}) noexcept {
    return a.fetch_and(x, o);
  }
  // The same on fields of G, which lie in memory that nobody constructs anew.
  template <class T>
  requires std::is_scalar_v<T>
  static GRT_INLINE T load(const T& a, std::memory_order o, site = {}) noexcept {
    T x;
    __atomic_load(&a, &x, static_cast<int>(o));
    return x;
  }
  template <class T>
  requires std::is_scalar_v<T>
  static GRT_INLINE void store(T& a, T x, std::memory_order o, site = {}) noexcept {
    __atomic_store(&a, &x, static_cast<int>(o));
  }
  template <class T>
  requires std::is_scalar_v<T>
  static GRT_INLINE bool cas(T& a, T& was, T x, std::memory_order o, site = {}) noexcept {
    const bool acquires = o != std::memory_order_relaxed && o != std::memory_order_release; // [HELD-3]
    return __atomic_compare_exchange(&a, &was, &x, false, static_cast<int>(o),
                                     acquires ? __ATOMIC_ACQUIRE : __ATOMIC_RELAXED); // [HELD-3]
  }
  template <class T>
  requires std::is_scalar_v<T>
  static GRT_INLINE T exchange(T& a, T x, std::memory_order o, site = {}) noexcept {
    T was;
    __atomic_exchange(&a, &x, &was, static_cast<int>(o));
    return was;
  }
  static GRT_INLINE void compiler_fence(site) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } // [BRK-1]
  static void all_threads_fence(site) noexcept { membarrier(); }
  static void full_fence(site) noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); } // [RETIRE-1]
  static void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t x) noexcept { grt::futex_wait(&word, x); }
  static void futex_wait_for(std::atomic<std::uint32_t>& word, std::uint32_t x, std::int64_t ns) noexcept {
    grt::futex_wait(&word, x, ns);
  }
  static void futex_wake(std::atomic<std::uint32_t>& word) noexcept { grt::futex_wake(&word); }
  static constexpr bool loads_in_order() noexcept {
#if defined(__x86_64__)
    return true;
#else
    return false;
#endif
  }
  static GRT_INLINE void relax() noexcept { arch::relax(); }
  /// Both stand where a load is about to be repeated and nothing was changed since.
  static void pause(int& i) noexcept {
    arch::relax();
    if (++i % 1000 == 0) sched_yield();
  }
};

// ---- Bracket. An M has `in`, `lost`, `thief`.

/// false: not alone, go on with answer().
template <class A, class M> GRT_INLINE bool enter(M* m) {
  A::store(m->in, std::uint32_t{1}, std::memory_order_relaxed);
  A::compiler_fence(site::enter_fence); // [BRK-1] the cheap half: the thief's membarrier is the fence
  const auto order = A::loads_in_order() ? std::memory_order_acquire : std::memory_order_relaxed; // [BRK-2]
  lost_state l = A::load(m->lost, order, site::enter_lost);
  if (!A::loads_in_order()) A::compiler_fence(site::enter_order); // [BRK-2] who changed the queues fenced for us
  return GRT_LIKELY(l == lost_state::free);
}

template <class A, class M> GRT_INLINE void leave(M* m) {
  // [BRK-1] the thief that sees 0 sees what was done inside
  A::store(m->in, std::uint32_t{0}, std::memory_order_release, site::leave_in);
}

/// Owner. Inside on return, whatever `lost` was, or false: gone. donate(): moves work to m->thief. ended(l): `l`, poke
/// or announced, is over.
template <class A, class M, class Donate, class Ended> GRT_INLINE bool answer(M* m, Donate donate, Ended ended) {
  for (int i = 0;;) {
    A::store(m->in, std::uint32_t{1}, std::memory_order_relaxed);
    A::compiler_fence(site::answer_fence); // [BRK-1]
    // [LOST-1] sees what the thief left in the queues
    lost_state l = A::load(m->lost, std::memory_order_acquire, site::answer_lost);
    if (l == lost_state::free) return true;
    if (l == lost_state::poke || l == lost_state::announced) {
      // orders nothing: the next look does
      if (A::cas(m->lost, l, lost_state::free, std::memory_order_relaxed)) ended(l);
      continue;
    }
    if (l == lost_state::ask) {
      // [LOST-1] perhaps another thief's `ask` by now
      if (!A::cas(m->lost, l, lost_state::grant, std::memory_order_acquire, site::answer_grant)) continue;
      donate();
      // [LOST-1] the thief sees its rings filled
      A::store(m->lost, lost_state::free, std::memory_order_release, site::answer_done);
      continue;
    }
    A::store(m->in, std::uint32_t{0}, std::memory_order_release, site::answer_out); // [BRK-1] take: stay out
    if (l == lost_state::gone) return false;
    while (A::load(m->lost, std::memory_order_relaxed) == lost_state::take) A::pause(i);
  }
}

/// Owner, inside, with nothing to give.
template <class A, class M> GRT_INLINE void deny(M* m) {
  lost_state l = A::load(m->lost, std::memory_order_relaxed);
  if (GRT_UNLIKELY(l == lost_state::ask || l == lost_state::poke))
    A::cas(m->lost, l, lost_state::free, std::memory_order_relaxed);
}

/// Thief, inside its own bracket. false: another one is there.
template <class A, class M, class P> GRT_INLINE bool ask(M* victim, P* mine, typename A::lock& thieves) {
  if (!thieves.try_lock()) return false;
  // [LOST-1] who was answered before is done with `thief`
  bool asked = A::load(victim->lost, std::memory_order_acquire, site::ask_look) == lost_state::free;
  if (asked) {
    victim->thief = mine;
    lost_state l = lost_state::free;
    // [LOST-1] but for the owner, nobody leaves `free` without `thieves`
    asked = A::cas(victim->lost, l, lost_state::ask, std::memory_order_release, site::ask);
  }
  thieves.unlock();
  return asked;
}

/// Thief, after ask(). false: answered. true: `lost` is `take`, let_go() must follow.
template <class A, class M, class Patience> GRT_INLINE bool take(M* victim, Patience patient) {
  int i = 0;
  while (A::load(victim->lost, std::memory_order_relaxed) == lost_state::ask && patient()) A::relax();
  lost_state l = lost_state::ask;
  // [LOST-1] if it fails: answered, our rings are filled
  if (A::cas(victim->lost, l, lost_state::take, std::memory_order_acquire, site::take)) return true;
  if (l == lost_state::grant) // [LOST-1]
    while (A::load(victim->lost, std::memory_order_acquire, site::grant_wait) == lost_state::grant) A::pause(i);
  return false;
}

/// Thief that need not ask, or sysmon. false: the state is no longer `was`. true: `lost` is `take`, let_go() must
/// follow.
template <class A, class M> GRT_INLINE bool seize(M* victim, lost_state was, typename A::lock& thieves) {
  typename A::guard hold(thieves);
  return A::cas(victim->lost, was, lost_state::take, std::memory_order_acquire, site::take); // [LOST-1]
}

/// Thief, after take() or seize() said true. Is the owner outside, its P the caller's until let_go()?
template <class A, class M> GRT_INLINE bool shut_out(M* victim) {
  A::all_threads_fence(site::take_fence);                                                   // [BRK-1]
  return A::load(victim->in, std::memory_order_acquire, site::take_in) == std::uint32_t{0}; // [BRK-1]
}

/// touched: it was, and was used.
template <class A, class M> GRT_INLINE void let_go(M* victim, bool touched, lost_state to = lost_state::free) {
  if (touched && !A::loads_in_order()) A::all_threads_fence(site::take_publish); // [BRK-2]
  A::store(victim->lost, to, std::memory_order_release, site::take_done);        // [LOST-1]
}

// ---- Sleepers. An M has `asleep` and `woken_as_watcher` (under the lock, and its own once it is awake).

/// Producer, after its push. true: call wake_one_to_watch().
template <class A> GRT_INLINE bool must_wake(typename A::template atomic<std::uint32_t>& need_watch) {
  A::compiler_fence(site::notify_fence); // [WATCH-1] the push before need_watch; the sleeper's membarrier is the fence
  return GRT_UNLIKELY(A::load(need_watch, std::memory_order_relaxed) != std::uint32_t{0});
}

template <class A, class M> class sleepers {
  template <class T> using atomic = typename A::template atomic<T>;
  template <class T> using plain = typename A::template plain<T>;
  using guard = typename A::guard;

public:
  explicit constexpr sleepers(atomic<std::uint32_t>& need) : need_watch_(need) {}

  typename A::lock lock;
  plain<unsigned> n = 0;
  plain<bool> watcher = false; // somebody searches or watches
  plain<M*> leader = nullptr;  // the sleeper with a time-out
  std::uint64_t left = 0;      // sleepers that have left the list, ever

  /// false: nobody sleeps or watches.
  bool wake_one_to_watch() {
    M* m;
    bool somebody;
    {
      guard hold(lock);
      m = watcher ? nullptr : pop();
      somebody = m || watcher;
      if (m) {
        m->woken_as_watcher = true;
        watcher = true;
      }
      publish();
    }
    if (!m) return somebody;
    A::store(m->asleep, std::uint32_t{awake}, std::memory_order_release, site::wake); // [SLEEP-1]
    A::futex_wake(m->asleep);
    return true;
  }

  bool become_watcher(M* m) {
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
      list_[n] = m;
      n = n + 1;
      if (!leader) {
        leader = m;
        A::store(sleeps_until_, std::uint64_t{0}, std::memory_order_relaxed);
      }
      publish();
    }
    // [WATCH-1] a push before it is seen by the caller's look; one after it sees need_watch
    A::all_threads_fence(site::sleep_fence);
  }

  /// Leaves the list by itself. false: somebody else took it out and is about to wake it.
  bool withdraw(M* m) {
    M* heir = nullptr;
    {
      guard hold(lock);
      unsigned at = 0, last = n;
      while (at < last && list_[at] != m) at++;
      if (at == last) return false;
      drop(at);
      if (leader == m) {
        leader = heir = last > 1 ? static_cast<M*>(list_[last - 2]) : nullptr; // W2
        A::store(sleeps_until_, std::uint64_t{0}, std::memory_order_relaxed);
        // It goes back to sleep, with the time-out. Under the lock: once it is popped its word says awake, for good.
        if (heir) A::store(heir->asleep, std::uint32_t{napping}, std::memory_order_relaxed);
      }
      publish();
    }
    A::store(m->asleep, std::uint32_t{awake}, std::memory_order_relaxed);
    if (heir) A::futex_wake(heir->asleep);
    return true;
  }

  /// Before each futex_wait(m->asleep, deep). true: it has left the list, woken by somebody.
  bool woken(M* m) {
    for (;;) {
      std::uint32_t state = A::load(m->asleep, std::memory_order_acquire, site::sleep_look); // [SLEEP-1]
      if (state != napping) return state == awake;
      // From here on a new `napping` is news: futex_wait expects deep. A waker's `awake` must not be overwritten.
      if (A::cas(m->asleep, state, std::uint32_t{deep}, std::memory_order_relaxed)) return false;
    }
  }

  bool leads(M* m) {
    guard hold(lock);
    return leader == m;
  }

  /// The leader, before it looks at the timers and sleeps till then at most.
  void will_sleep_until(std::uint64_t when) {
    A::store(sleeps_until_, when, std::memory_order_relaxed);
    // [TIMER-1] a timer added before is seen by the caller's look; one added after sees sleeps_until_
    A::all_threads_fence(site::leader_fence);
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
    list_[at] = static_cast<M*>(list_[n]);
    left++;
  }

  // The newest sleeper that is not the leader, or the leader.
  M* pop() {
    if (!n) return nullptr;
    unsigned at = n - 1;
    if (list_[at] == leader && n > 1) at--;
    M* m = list_[at];
    drop(at);
    if (m == leader) leader = nullptr; // then the list is empty
    return m;
  }

  void hurry_leader() {
    guard hold(lock);
    if (!leader) return;
    M* m = leader;
    A::store(sleeps_until_, std::uint64_t{0}, std::memory_order_relaxed);
    A::store(m->asleep, std::uint32_t{napping}, std::memory_order_relaxed); // it looks at the timers and sleeps again
    A::futex_wake(m->asleep);
  }

  atomic<std::uint32_t>& need_watch_;
  plain<M*> list_[A::sleepers_max]{};
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
