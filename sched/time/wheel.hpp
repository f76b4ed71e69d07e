// sched/time/wheel.hpp - the timers of one P: a hierarchical wheel (Varghese and Lauck 1987, scheme 7).
//
// One tick is 1,024 ns. There are 9 levels of 64 slots. A slot of level L spans 64^L ticks, so the wheel spans all
// 2^54 ticks that a 64-bit time in ns has. The last tick never comes: `now` stays below it. So a deadline that is
// rounded up to the last tick waits for ever, and there is always a tick after `now`.
//
// A deadline is rounded up to a tick: a timer is never early. A node is put at the level of the highest bit in which
// its tick differs from `now`. So all timers of level L are due before any of level L+1, and within a level the slots
// are due in order. The next deadline is therefore two bit scans away. Insert and remove are O(1).
//
// Everything is under `lock`, except `next_ns`, which other threads read without it as a hint. If they read a value
// that is too early, this costs a look. A value that is too late cannot be read: `next_ns` is lowered before the
// inserter leaves the lock, and an M that goes to sleep reads it after a membarrier.
//
// Rejected: a heap (Go: O(log n) to stop a timer, and a heap with lazy deletion grows); one wheel for all Ps (its
// lock is the hottest in the process).
#pragma once
#include <atomic>
#include <cstdint>

#include "base/spin.hpp"

namespace grt {

struct G;
struct wheel;

/// A node is on the waiter's stack or in a timer's shared state. Its fields are under the lock of its wheel.
struct timer_node {
  timer_node* next = nullptr;
  timer_node** link = nullptr;        // the pointer that points at this node; null: not armed
  std::atomic<wheel*> owner{nullptr}; // between two wheels it changes only under the locks of both
  std::uint64_t tick = 0;
  std::uint8_t level = 0, slot = 0;
  /// Called under the wheel's lock, after the node has left the wheel. Returns a goroutine to make runnable once the
  /// lock is free, or null. May take a waiter queue's lock (order: wheel, then queue), may arm its node again, must
  /// not block or allocate.
  G* (*fire)(timer_node*) = nullptr;
};

struct wheel {
  static constexpr unsigned tick_shift = 10; // a tick is 2^10 ns
  static constexpr int levels = 9;
  static constexpr std::uint64_t last = ~std::uint64_t{0} >> tick_shift;
  static_assert(last == (std::uint64_t{1} << 6 * levels) - 1);
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  spin_lock lock;
  std::uint64_t now = 0;  // in ticks, below `last`; all timers before it have fired
  std::uint64_t used = 0; // one bit for each level that has a timer
  bool advancing = false; // fire callbacks are running
  std::uint64_t bits[levels] = {};
  timer_node* slots[levels][64] = {};
  std::atomic<std::uint64_t> next_ns{never};
  std::uint64_t armed = 0;

  /// Caller holds `lock`. `when_ns` is a time on CLOCK_MONOTONIC.
  void insert(timer_node* n, std::uint64_t when_ns, std::uint64_t now_ns) noexcept;
  /// Caller holds `lock`. Returns true if the node was armed in this wheel.
  bool remove(timer_node* n) noexcept;
  /// Caller holds `lock`. Advances to `now_ns` and calls fire for every due node, in order. `out` receives the
  /// goroutines to run, linked by G::link.
  void advance(std::uint64_t now_ns, G** out) noexcept;
  /// Caller holds the locks of both wheels. Moves every timer of `from` to this wheel.
  void absorb(wheel& from, std::uint64_t now_ns) noexcept;

private:
  void turn_to(std::uint64_t tick) noexcept;
  void place(timer_node* n) noexcept;
  void unplace(timer_node* n) noexcept;
  void publish() noexcept;
  bool first(int& level, int& slot, std::uint64_t& tick) const noexcept;
};

} // namespace grt
