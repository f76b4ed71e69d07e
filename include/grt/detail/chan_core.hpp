// grt/detail/chan_core.hpp - the untyped channel. Not API.
//
// Invariants, whenever `lock` is free:
//   I1  receivers and senders are never both queued, unless one select waits on both sides or a queued waiter is stale
//   (its select has fired). I2  n > 0         => no live receiver waits. I3  n < capacity  => no live sender waits. I4
//   closed        => nobody waits.
//   I5  send_below is the capacity, or 0; it is 0 while a receiver is queued, or closed.
//   I6  recv_above is 0, or the largest number; it is that while a sender is queued.
// So a send that finds n < send_below, and a receive that finds n > recv_above, have to do with the buffer only. Who is
// sent elsewhere by them in vain puts them right.
// Queues are FIFO. A value for a waiting receiver is moved straight into its storage; a full buffer takes the first
// waiting sender's value as a receive makes room. Everything is under `lock`, but for the racy looks of try_* that may
// say "empty" or "full" as of a moment ago.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <grt/detail/ending.hpp>
#include <grt/detail/hold.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>

namespace grt::detail {

/// How elements move. Both run under the channel's lock: they may not throw or call grt.
struct elem_ops {
  std::size_t size, align;
  void (*move)(void* to,
               void* from) noexcept; // constructs *to from std::move(*from); from stays to be destroyed by its owner
  void (*destroy)(void*) noexcept;
};

struct chan_core {
  spin_lock lock;
  bool closed = false;
  std::uint32_t n = 0, head = 0, capacity = 0;
  std::atomic<std::uint32_t> refs{1};
  std::uint32_t send_below = 0, recv_above = 0;
  wait_queue receivers, senders;
  const elem_ops* ops = nullptr; // null: chan<void>
  char* buffer = nullptr;        // in the same block

  static constexpr std::uint32_t most = ~0u;
  void queue_receiver(waiter* w) noexcept {
    send_below = 0;
    receivers.push(w);
  }
  void queue_sender(waiter* w) noexcept {
    recv_above = most;
    senders.push(w);
  }
  void* slot(std::uint32_t i) noexcept { return buffer + i * ops->size; }
};

enum class outcome : std::uint8_t { ok, closed, blocked };

chan_core* chan_make(std::size_t capacity, const elem_ops* ops); // throws length_error, bad_alloc
void chan_destroy(chan_core* c) noexcept;
inline void chan_ref(chan_core* c) noexcept {
  if (c) c->refs.fetch_add(1, std::memory_order_relaxed);
}
inline void chan_unref(chan_core* c) noexcept {
  if (c && c->refs.fetch_sub(1, std::memory_order_acq_rel) == 1)
    chan_destroy(c); // [CHAN-1] the last one sees what all did
}
/// chan_lock() before; the lock is free on return. `from`: the value to move out of. may_block false: never parks.
outcome chan_send_locked(chan_core* c, void* from, bool may_block);
/// `to`: raw storage, or null to drop the value. closed: nothing was constructed.
outcome chan_recv_locked(chan_core* c, void* to, bool may_block);
void chan_close(chan_core* c);                  // null or closed: channel_error
bool chan_close_once(chan_core* c) noexcept;    // false: it was closed
[[noreturn]] void chan_nil_block(bool sending); // for ever
[[noreturn]] void throw_closed(const char* what);
std::size_t chan_size(chan_core* c) noexcept;
bool chan_closed(chan_core* c) noexcept;

/// Returns what chan_unlock() may be given.
GRT_DETAIL_INLINE std::uintptr_t chan_lock(chan_core* c) noexcept {
  const std::uintptr_t words = hold();
  c->lock.lock();
  c->lock.tsan_acquire();
  return words;
}
GRT_DETAIL_INLINE void chan_unlock(chan_core* c, std::uintptr_t words = hold_at()) noexcept {
  c->lock.tsan_release();
  c->lock.unlock();
  let_loose(words);
}

// ---- select
struct select_case {
  waiter w;     // first: a waiter of a select is its case
  chan_core* c; // null: a nil channel, never ready
  void* elem;   // value or storage
  bool send;
  bool queued;       // under c->lock
  std::uint32_t tag; // index + 1
};

struct select_room {
  chan_core** order;
  unsigned* index;
};
/// The cases of one select; n is as long as the expression. Allocates only beyond 8 cases.
struct select_args {
  select_case** cases;
  unsigned n;
  bool has_default;
  std::int64_t timeout_ns;     // negative: none
  ending* ctx = nullptr;       // its end counts as a time-out
  select_room* room = nullptr; // beyond 8 cases: for n of each, else allocated
};
inline constexpr int select_default = -1, select_timeout = -2;
/// Returns the index of the case that fired, `ok` false if by close (a send then has not happened), or one of the two
/// above.
int select_run(const select_args& a, bool& ok);

/// One operation, null channels too. blocked: the time was up. The second pair throws system_error when the context
/// ends first.
outcome chan_send_for(chan_core* c, void* from, std::int64_t ns);
outcome chan_recv_for(chan_core* c, void* to, std::int64_t ns);
outcome chan_send_in(chan_core* c, void* from, const context& ctx);
outcome chan_recv_in(chan_core* c, void* to, const context& ctx);

} // namespace grt::detail
