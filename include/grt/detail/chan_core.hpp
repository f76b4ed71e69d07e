// grt/detail/chan_core.hpp - the untyped channel. Not API.
//
// A queued waiter is stale if its select has fired already; it is live otherwise. Invariants, whenever
// `lock` is free:
//
//   I1  Live receivers and live senders are not queued at the same time, unless one select waits on both sides.
//   I2  n > 0         =>  no live receiver is queued.
//   I3  n < capacity  =>  no live sender is queued.
//   I4  closed        =>  no live waiter is queued.
//   I5  send_below is `capacity` or 0. It is 0 while a receiver is queued, and once the channel is closed.
//   I6  recv_above is 0 or `most`. It is `most` while a sender is queued.
//
// So a send that finds n < send_below, and a receive that finds n > recv_above, need only the buffer. Either
// bound may be stricter than necessary after the last waiter has left its queue. That costs one call of the
// slow path, which resets the bound.
//
// Both queues are FIFO. A value for a waiting receiver is moved straight into the receiver's storage. When a
// receive makes room in a full buffer, the first waiting sender's value moves into the buffer. `lock` guards
// all fields except `refs`. Some readers do not take it: the polls of try_recv and select, size() and closed().
// Their answers are true of a moment during the call.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <grt/detail/ending.hpp>
#include <grt/detail/hold.hpp>
#include <grt/detail/spin.hpp>
#include <grt/detail/waiter.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::detail {

/// How elements of one type move. Both functions run under the channel's lock: they must not throw or call grt.
struct elem_ops {
  std::size_t size, align;
  // Constructs *to from std::move(*from). The owner of *from still destroys it.
  void (*move)(void* to, void* from) noexcept;
  void (*destroy)(void*) noexcept;
};

struct chan_core {
  spin_lock lock;
  bool closed = false;
  std::uint32_t n = 0, head = 0, capacity = 0; // values in the buffer; index of the oldest one; slots of the buffer
  std::atomic<std::uint32_t> refs{1};
  std::uint32_t send_below = 0, recv_above = 0; // I5, I6
  wait_queue receivers, senders;
  const elem_ops* ops = nullptr; // null for chan<void>
  char* buffer = nullptr;        // in the same allocation, behind this struct

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

/// The result of one operation. blocked: the operation would have had to wait, or its time ran out.
enum class outcome : std::uint8_t { ok, closed, blocked };

chan_core* chan_make(std::size_t capacity, const elem_ops* ops); // one reference; throws length_error, bad_alloc
void chan_destroy(chan_core* c) noexcept;
inline void chan_ref(chan_core* c) noexcept {
  if (c) c->refs.fetch_add(1, std::memory_order_relaxed);
}
inline void chan_unref(chan_core* c) noexcept {
  if (c && c->refs.fetch_sub(1, std::memory_order_acq_rel) == 1)
    chan_destroy(c); // [CHAN-1] the last holder sees what all others did
}
/// Sends. The caller has called chan_lock(); on return, or when an exception leaves, the lock is free. The value is
/// moved out of *from (null for chan<void>), unless the result is not ok. Waits only if may_block is true.
/// @throws std::system_error the calling thread's first wait has no memory, or cannot start the runtime.
outcome chan_send_locked(chan_core* c, void* from, bool may_block);
/// Receives, under the same rules. `to` is raw storage, or null to drop the value. A value is constructed there only
/// if the result is ok.
outcome chan_recv_locked(chan_core* c, void* to, bool may_block);
void chan_close(chan_core* c);                  // throws channel_error if c is null or closed
bool chan_close_once(chan_core* c) noexcept;    // returns false if c was closed before
[[noreturn]] void chan_nil_block(bool sending); // waits for ever
[[noreturn]] void throw_closed(const char* what);
std::size_t chan_size(chan_core* c) noexcept;
bool chan_closed(chan_core* c) noexcept;

/// Returns hold_at(). Passing it to chan_unlock() saves computing it again.
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
  waiter w;     // the first member, so that a select's waiter* can be converted to its select_case*
  chan_core* c; // null for a nil channel, which is never ready
  void* elem;   // send: the value; receive: the storage
  bool send;
  bool queued;       // w is in a queue of c; under c->lock
  std::uint32_t tag; // the index of the case + 1
};

/// Scratch arrays for a select with more than 8 cases; each has room for select_args::n elements.
struct select_room {
  chan_core** order;
  unsigned* index;
};
/// The cases and the limits of one select.
struct select_args {
  select_case** cases;
  unsigned n; // number of cases, without time-outs and the default
  bool has_default;
  std::int64_t timeout_ns;     // negative: no time-out
  ending* ctx = nullptr;       // when it ends, the select returns select_timeout
  select_room* room = nullptr; // null: select_run() allocates if n > 8
};
inline constexpr int select_default = -1, select_timeout = -2;
/// Returns the index of the case that fired, or select_default or select_timeout. `ok` is set to false if the case
/// fired because its channel is closed; a send has then not happened. Allocates only if n > 8 and there is no `room`.
int select_run(const select_args& a, bool& ok);

/// One operation with a limit; c may be null, which is a nil channel. The first pair waits at most ns and returns
/// `blocked` if the time ran out. The second pair throws std::system_error if the context ends first, or has ended
/// before.
outcome chan_send_for(chan_core* c, void* from, std::int64_t ns);
outcome chan_recv_for(chan_core* c, void* to, std::int64_t ns);
outcome chan_send_in(chan_core* c, void* from, const context& ctx);
outcome chan_recv_in(chan_core* c, void* to, const context& ctx);

} // namespace grt::detail

#pragma GCC visibility pop
