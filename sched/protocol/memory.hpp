// sched/protocol/memory.hpp - the memory that the protocols run on.
//
// A protocol says who may touch what without a lock. Each one is written as templates over the class of
// memory it runs on. The runtime uses std::atomic and membarrier(2) (`hardware`, below). The model
// (tests/model) runs the same text on a memory with store buffers and stale loads, through all
// interleavings. It also takes each order and each fence away in turn, and expects a failure. So the
// protocols contain nothing else: no clock, no queue, and no policy such as whom to steal from.
//
//   sched/protocol/bracket.hpp   ask, donate, take: who may touch the queues of a P
//   sched/protocol/sleep.hpp     watch, submit: who wakes a sleeping M; park
//   sched/protocol/handoff.hpp   how a P gets another M; retirement
//   sched/protocol/hold.hpp      a goroutine keeps its P while it uses a lock of the runtime
//   sched/protocol/drift.hpp     the priority of a detached thread
//   sched/protocol/halt.hpp      goroutines stand still at exit
//   sched/protocol/held.hpp      the scavenger claims parked goroutines
//   sched/protocol/look.hpp      how debugging code inspects a goroutine that may be running
//   sync/protocol_mutex.hpp      the mutex
#pragma once
#include <atomic>
#include <cstdint>
#include <sched.h>
#include <type_traits>

#include "arch/arch.hpp"
#include "base/futex.hpp"
#include "base/spin.hpp"

namespace grt::protocol {

/// A name for each fence and for each order stronger than relaxed, so that the model can take it away. The
/// names cost nothing at run time.
enum class site : unsigned char {
  none,
  enter_fence, // sched/protocol/bracket.hpp
  enter_lost,  // on cores that keep loads in order: it binds the compiler only
  enter_order, // on other cores
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
  notify_fence, // sched/protocol/sleep.hpp
  sleep_fence,
  sleep_look,
  wake,
  timer_fence,
  leader_fence,
  arm_fence,
  far_side,
  foreign_wait,
  foreign_ready,
  park_reason, // sched/protocol/held.hpp
  ready_fence,
  hold_fence,
  held_reason,
  held_leave,
  held_let_go,
  give_turn, // sched/protocol/handoff.hpp
  take_threadless,
  put_threadless,
  await_turn,
  claim_keeper,
  vacate_keeper,
  set_holder,
  holder_of,
  step_back,
  is_back,
  hold_on_fence, // sched/protocol/hold.hpp
  hold_gone,
  set_bar,
  bar_words,
  words_fence,
  words_lost,
  come_home, // sched/protocol/drift.hpp
  lowered,
  drift_begins,
  halt_fence, // sched/protocol/halt.hpp
  rejoin,
  retire_fence,
  procs_fence,
  mutex_lock, // sync/protocol_mutex.hpp, grt/sync.hpp
  mutex_unlock,
  look_saved, // sched/protocol/look.hpp
  look_begin,
  look_fence,
  spin_lock, // base/spin.hpp
  spin_unlock,
  count
};

/// The real memory.
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
  // The same for fields of G. They are plain scalars, because no constructor runs when a slot is used again.
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
  /// relax() and pause() belong in loops that repeat a load and change nothing in between.
  static void pause(int& i) noexcept {
    arch::relax();
    if (++i % 1000 == 0) sched_yield();
  }
};

} // namespace grt::protocol
