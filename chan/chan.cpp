// chan/chan.cpp - send, receive and close of the untyped channel. grt/detail/chan_core.hpp states the invariants.
#include <grt/chan.hpp>

#include <new>
#include <stdexcept>

#include "base/check.hpp"
#include "chan/select.hpp"
#include "sched/core/foreign.hpp"
#include "sched/core/sched.hpp"

namespace grt {
channel_error::~channel_error() = default;

namespace detail {

chan_core* chan_make(std::size_t capacity, const elem_ops* ops) {
  std::size_t size = ops ? ops->size : 0, align = ops ? ops->align : 1;
  if (capacity > chan_max_capacity || (size && capacity > chan_max_bytes / size))
    throw std::length_error("grt::chan: capacity is too large");
  std::size_t head = (sizeof(chan_core) + align - 1) / align * align;
  std::align_val_t block{align > alignof(chan_core) ? align : alignof(chan_core)};
  auto* c = ::new (::operator new(head + capacity * size, block)) chan_core;
  c->capacity = c->send_below = static_cast<std::uint32_t>(capacity);
  c->ops = ops;
  c->buffer = reinterpret_cast<char*>(c) + head;
  return c;
}

// [CHAN-1] Every access by another holder happened before that holder's fetch_sub.
void chan_destroy(chan_core* c) noexcept {
  c->lock.tsan_acquire();
  std::align_val_t block{c->ops && c->ops->align > alignof(chan_core) ? c->ops->align : alignof(chan_core)};
  while (c->ops && c->n) {
    c->ops->destroy(c->slot(c->head));
    c->head = c->head + 1 == c->capacity ? 0 : c->head + 1;
    c->n--;
  }
  c->~chan_core();
  ::operator delete(c, block);
}

namespace {
void move_elem(chan_core* c, void* to, void* from) noexcept {
  if (c->ops && to) c->ops->move(to, from);
}
std::uint32_t tail_of(chan_core* c) noexcept {
  std::uint32_t i = c->head + c->n;
  return i >= c->capacity ? i - c->capacity : i;
}
} // namespace

// Lock held, channel not closed. Moves one value to the first waiting receiver, or into the buffer if no receiver
// waits. Returns false if the buffer is full. The caller makes `woken` ready after it has released the lock.
bool put_value(chan_core* c, void* from, G*& woken) noexcept {
  GRT_DCHECK(!c->closed && c->n <= c->capacity, "I1");
  if (waiter* w = pop_live(c->receivers)) {
    move_elem(c, w->elem, from);
    woken = resolve(w, true);
    return true;
  }
  if (c->n == c->capacity) return false;
  c->send_below = c->capacity;
  if (c->ops) c->ops->move(c->slot(tail_of(c)), from);
  c->n++;
  return true;
}

bool get_value(chan_core* c, void* to, G*& woken) noexcept {
  GRT_DCHECK(c->n <= c->capacity && c->head <= c->capacity, "I1");
  if (c->n) {
    if (c->ops) {
      void* s = c->slot(c->head);
      move_elem(c, to, s);
      c->ops->destroy(s);
      c->head = c->head + 1 == c->capacity ? 0 : c->head + 1;
    }
    c->n--;
    if (waiter* w = pop_live(c->senders)) {
      if (c->ops) c->ops->move(c->slot(tail_of(c)), w->elem);
      c->n++;
      woken = resolve(w, true);
    } else {
      c->recv_above = 0;
    }
    return true;
  }
  if (waiter* w = pop_live(c->senders)) {
    move_elem(c, to, w->elem);
    woken = resolve(w, true);
    return true;
  }
  return false;
}

// Sets `g` to the calling goroutine, or to the record of the calling foreign thread. Returns false, with `g` null, if
// this is the thread's first wait. Then the record must be made, which takes memory, may start the runtime and may
// throw, so the caller must release its lock for that.
static GRT_INLINE bool known_self(G*& g) noexcept {
  if (M* m = me(); GRT_LIKELY(m != nullptr)) return g = m->g, true;
  return (g = foreign_known()) != nullptr;
}
// Lock held on entry and on a normal return. If it throws, the lock is free and the channel unchanged.
static GRT_NOINLINE void make_self(chan_core* c) {
  chan_unlock(c);
  self();
  chan_lock(c);
}

outcome chan_send_locked(chan_core* c, void* from, bool may_block) {
  if (GRT_UNLIKELY(c->closed)) return chan_unlock(c), outcome::closed;
  G* woken = nullptr;
  if (put_value(c, from, woken)) {
    chan_unlock(c);
    if (woken) ready(woken);
    return outcome::ok;
  }
  if (!may_block) return chan_unlock(c), outcome::blocked;
  G* g;
  if (GRT_UNLIKELY(!known_self(g))) return make_self(c), chan_send_locked(c, from, true);
  g->w.elem = from;
  g->w.sel = nullptr;
  c->queue_sender(&g->w);
  c->lock.tsan_release();
  park(g, release_of(&c->lock), wait_reason::chan_send, c);
  return g->ok ? outcome::ok : outcome::closed;
}

outcome chan_recv_locked(chan_core* c, void* to, bool may_block) {
  G* woken = nullptr;
  if (get_value(c, to, woken)) {
    chan_unlock(c);
    if (woken) ready(woken);
    return outcome::ok;
  }
  if (GRT_UNLIKELY(c->closed)) return chan_unlock(c), outcome::closed;
  if (!may_block) return chan_unlock(c), outcome::blocked;
  G* g;
  if (GRT_UNLIKELY(!known_self(g))) return make_self(c), chan_recv_locked(c, to, true);
  g->w.elem = to;
  g->w.sel = nullptr;
  c->queue_receiver(&g->w);
  c->lock.tsan_release();
  park(g, release_of(&c->lock), wait_reason::chan_receive, c);
  return g->ok ? outcome::ok : outcome::closed;
}

void chan_close(chan_core* c) {
  if (!c) throw channel_error("grt: close of nil channel");
  if (!chan_close_once(c)) throw channel_error("grt: close of closed channel");
}

bool chan_close_once(chan_core* c) noexcept {
  chan_lock(c);
  if (c->closed) return chan_unlock(c), false;
  c->send_below = 0;
  __atomic_store_n(&c->closed, true, __ATOMIC_RELEASE); // [CLOSE-1] some readers do not hold the lock
  G *list = nullptr, **end = &list;
  for (wait_queue* q : {&c->receivers, &c->senders})
    while (waiter* w = pop_live(*q)) {
      if (q->head) __builtin_prefetch(q->head);
      G* g = resolve(w, false);
      g->link = nullptr;
      *end = g;
      end = &g->link;
    }
  chan_unlock(c);
  while (list) {
    G* g = list;
    list = g->link;
    ready_tail(g);
  }
  return true;
}

void chan_nil_block(bool) {
  G* g = self();
  static spin_lock never;
  for (;;) {
    hold();
    never.lock();
    park(g, release_of(&never), wait_reason::nil_chan);
  }
}

void throw_closed(const char* what) { throw channel_error(what); }
// The race is intended: the value may be outdated when it is returned. A TSan build takes the lock, so that TSan does
// not report an intended race.
std::size_t chan_size(chan_core* c) noexcept {
  if (!c) return 0;
  if constexpr (!GRT_DETAIL_TSAN) return __atomic_load_n(&c->n, __ATOMIC_RELAXED);
  chan_lock(c);
  std::size_t n = c->n;
  chan_unlock(c);
  return n;
}
bool chan_closed(chan_core* c) noexcept {
  if (!c) return false;
  if constexpr (!GRT_DETAIL_TSAN) return __atomic_load_n(&c->closed, __ATOMIC_ACQUIRE); // [CLOSE-1]
  chan_lock(c);
  bool closed = c->closed;
  chan_unlock(c);
  return closed;
}

} // namespace detail
} // namespace grt
