// sched/time/wheel.hpp - a P's timers: a hierarchical wheel (Varghese and Lauck 1987, scheme 7).
//
// 9 levels of 64 slots; one tick is 1,024 ns; a level-L slot spans 64^L ticks, so the wheel spans all 2^54 ticks that a
// 64-bit time in ns has. The last of them never comes: `now` stays below it, so a deadline that is rounded up to it
// waits for ever, and there is always a tick after `now`. A deadline is rounded up to a tick: a timer is never early. A
// node stands at the level of the highest bit in which its tick differs from `now`, so all of level L is due before any
// of level L+1, within a level the slots are due in order, and the next deadline is two bit scans away. Insert and
// remove are O(1). Everything is under `lock`, except `next_ns`, which is read without it as a hint: stale early costs
// a look, stale late cannot be (it is lowered before the inserter leaves the lock, and who goes to sleep reads it after
// a membarrier). Rejected: a heap (Go; O(log n) to stop, and a lazily deleted one grows), one wheel for all (its lock
// is the hottest in the process).
#pragma once
#include <atomic>
#include <cstdint>

#include "base/spin.hpp"

namespace grt {

struct G;
struct wheel;

/// Lives on the waiter's stack or in a timer's shared state. Fields under the lock of the wheel it stands in.
struct timer_node {
  timer_node* next = nullptr;
  timer_node** link = nullptr;        // what points at this node; null: not armed
  std::atomic<wheel*> owner{nullptr}; // changes only under both wheels' locks
  std::uint64_t tick = 0;
  std::uint8_t level = 0, slot = 0;
  /// Called under the wheel's lock, node already out. Returns a goroutine to make runnable once the lock is free, or
  /// null. May take a waiter queue's lock (order: wheel, then queue), may arm its node again, must not block or
  /// allocate.
  G* (*fire)(timer_node*) = nullptr;
};

struct wheel {
  static constexpr unsigned tick_shift = 10; // ns
  static constexpr int levels = 9;
  static constexpr std::uint64_t last = ~std::uint64_t{0} >> tick_shift;
  static_assert(last == (std::uint64_t{1} << 6 * levels) - 1);
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  spin_lock lock;
  std::uint64_t now = 0;  // ticks, below `last`; everything before is done
  std::uint64_t used = 0; // bit per level
  bool advancing = false; // fire callbacks are running
  std::uint64_t bits[levels] = {};
  timer_node* slots[levels][64] = {};
  std::atomic<std::uint64_t> next_ns{never};
  std::uint64_t armed = 0;

  /// Caller holds `lock`. `when_ns` on the steady clock.
  void insert(timer_node* n, std::uint64_t when_ns, std::uint64_t now_ns) noexcept;
  /// Caller holds `lock`. true: it was armed here.
  bool remove(timer_node* n) noexcept;
  /// Caller holds `lock`. Moves on to `now_ns` and hands every due node, in order, to fire; the goroutines to run go to
  /// `out` linked by G::link.
  void advance(std::uint64_t now_ns, G** out) noexcept;
  /// Caller holds both locks. Takes over every timer of `from`.
  void absorb(wheel& from, std::uint64_t now_ns) noexcept;

private:
  void turn_to(std::uint64_t tick) noexcept;
  void place(timer_node* n) noexcept;
  void unplace(timer_node* n) noexcept;
  void publish() noexcept;
  bool first(int& level, int& slot, std::uint64_t& tick) const noexcept;
};

} // namespace grt
