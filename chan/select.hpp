// chan/select.hpp - one goroutine in several queues.
//
// select_state lives on the selecting stack. `fired` is the one word that decides: 0, or case + 1, or fired_timeout.
// Whoever takes a waiter of the select out of a queue (under that channel's lock) must win fired from 0 by CAS, else
// the waiter is stale and is dropped. [SEL-1] The selector holds all its channels' locks, and `lock` if it has a
// timeout, until its registers are saved; so a winner finds a parked goroutine. The far side releases them one by one:
// the selector may run again before the last is free, but then waits for it, because to leave the queues it takes them
// all again - but the one it was fired by: whoever fired it has had that lock after the far side released it, and took
// it out of that queue. Before all that, a look without locks: a case that is ready needs its own channel's lock alone.
// After the last release nobody reads the record. A limit (time-out or context): armed before the locks are
// taken (order: wheel or context, then `lock`). Its callback takes `lock`, wins `fired` or not, and readies the
// goroutine only if it has parked; disarm() is synchronous, so the record outlives the callback.
#pragma once
#include <atomic>
#include <cstdint>

#include <grt/detail/chan_core.hpp>

#include "sched/goroutine/g.hpp"
#include "sched/time/wheel.hpp"

namespace grt::detail {

inline constexpr std::uint32_t fired_timeout = ~std::uint32_t{0};

/// What a parked select waits for, by address: its park()'s object, which debug/look.cpp follows. As the record.
struct select_channels {
  chan_core** order; // each once, sorted
  unsigned n_order = 0;
};

struct select_state {
  std::atomic<std::uint32_t> fired{0};
  G* g = nullptr;
  spin_lock lock;
  bool parked = false; // under lock
};

/// Lock held. Takes the first waiter whose wait is still on.
inline waiter* pop_live(wait_queue& q) noexcept {
  while (waiter* w = q.pop()) {
    if (!w->sel) return w;
    auto* sc = reinterpret_cast<select_case*>(w);
    sc->queued = false;
    std::uint32_t none = 0;
    // [SEL-1] the winner may use the record: its owner cannot leave before it has had this channel's lock again
    if (w->sel->fired.compare_exchange_strong(none, sc->tag, std::memory_order_acq_rel)) return w;
  }
  return nullptr;
}

/// The winner's verdict for a waiter it took; returns whom to ready once the lock is free.
inline G* resolve(waiter* w, bool ok) noexcept {
  G* g = w->sel ? w->sel->g : g_of(w);
  g->ok = ok;
  return g;
}

bool put_value(chan_core* c, void* from, G*& woken) noexcept;
bool get_value(chan_core* c, void* to, G*& woken) noexcept;

} // namespace grt::detail
