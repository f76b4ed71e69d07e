// chan/select.hpp - select: one goroutine that waits in the queues of several channels.
//
// The record of a select, with its select_state, is on the selecting goroutine's stack. The word `fired` decides the
// outcome: 0 (undecided), case + 1, or fired_timeout.
//
// Winning. A thread that pops a waiter of a select from a queue, under that channel's lock, must change `fired` from 0
// by CAS. If it cannot, the waiter is stale and is dropped. [SEL-1]
//
// Parking. The selector holds the locks of all its channels, and select_state::lock if it has a limit, until its
// registers are saved. So a winner always finds a parked goroutine. The far side of the switch releases the locks one
// by one. The selector may run again before the last one is free, but does not return before. To leave the queues it
// takes every lock again, except that of the channel whose case fired: the winner took the waiter out of that queue,
// under a lock that it got after the far side had released it. Nobody reads the record after the last release.
//
// Fast path. Before all this, the selector looks at the cases without any lock. A case that is ready needs only the
// lock of its own channel.
//
// Limits. A limit (time-out or context) is armed before the locks are taken. The lock order is: wheel or context, then
// select_state::lock. The limit's callback takes select_state::lock, tries to win `fired`, and readies the goroutine
// only if it has parked. disarm() is synchronous, so the record outlives the callback.
#pragma once
#include <atomic>
#include <cstdint>

#include <grt/detail/chan_core.hpp>

#include "sched/goroutine/g.hpp"
#include "sched/time/wheel.hpp"

namespace grt::detail {

inline constexpr std::uint32_t fired_timeout = ~std::uint32_t{0};

/// The channels that a parked select waits for. Its address is the object of the park(), which debug/look.cpp follows.
/// It lives as long as the record.
struct select_channels {
  chan_core** order; // each channel once, sorted by address
  unsigned n_order = 0;
};

struct select_state {
  std::atomic<std::uint32_t> fired{0};
  G* g = nullptr;
  spin_lock lock;
  bool parked = false; // under lock
};

/// Lock held. Pops waiters until one is not stale, and returns that one, or null.
inline waiter* pop_live(wait_queue& q) noexcept {
  while (waiter* w = q.pop()) {
    if (!w->sel) return w;
    auto* sc = reinterpret_cast<select_case*>(w);
    sc->queued = false;
    std::uint32_t none = 0;
    // [SEL-1] The record is valid: its owner cannot return before it has had this lock again, or was readied by us.
    if (w->sel->fired.compare_exchange_strong(none, sc->tag, std::memory_order_acq_rel)) return w;
  }
  return nullptr;
}

/// Stores the outcome for a waiter that was popped. Returns its goroutine, which the caller makes ready after it has
/// released the lock.
inline G* resolve(waiter* w, bool ok) noexcept {
  G* g = w->sel ? w->sel->g : g_of(w);
  g->ok = ok;
  return g;
}

bool put_value(chan_core* c, void* from, G*& woken) noexcept;
bool get_value(chan_core* c, void* to, G*& woken) noexcept;

} // namespace grt::detail
