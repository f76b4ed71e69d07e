// chan/timer.cpp - timers that send on a channel or start a goroutine.
//
// A timer_core is a node of a wheel. It is reference-counted: one reference for each handle, and one while it is armed.
// What each lock protects (lock order: lock, wheel, channel):
//   lock              arming and stopping. It is held while a wheel's lock and a channel's lock are taken.
//   the wheel's lock  goroutine, period and the armed reference, while the timer fires. timer_cancel is synchronous, so
//                     a stop sees either all of a firing or nothing of it.
//
// fire() runs on g0 inside the bracket, so it allocates and frees nothing. The reference that it drops may be the last
// one. Such a core goes to the list `dead`, and the next call that makes a timer frees it. [REAP-1]
//
// after_func with an attr takes the slot of its goroutine when it is armed; without an attr, when it fires. Firing
// passes the armed reference to the goroutine.
#include <grt/go.hpp>
#include <grt/time.hpp>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "chan/select.hpp"
#include "sched/core/sched.hpp"
#include "sched/goroutine/blocks.hpp"
#include "sched/wait/waiting.hpp"

namespace grt::detail {

static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ >= 16);

struct alignas(16) timer_core : timer_node {
  std::atomic<std::uint32_t> refs{1};
  spin_lock lock;
  chan_core* c = nullptr;    // null: the timer has a function instead
  void* goroutine = nullptr; // the goroutine that it starts next, prepared, or null
  std::int64_t period = 0;
  std::uint32_t bytes = 0;                  // the size of its block
  unsigned line;                            // with `file`: where after_func was called. Set only with a function
  const timer_function* function = nullptr; // static
  union {
    const char* file;
    timer_core* dead_next; // after the last reference was dropped
  };
  struct kept_attr {
    std::string name;
    attr a;
  };
  std::unique_ptr<kept_attr> with; // the attr of its goroutines, or null

  void* storage() noexcept { return this + 1; }
};

namespace {
std::atomic<timer_core*> dead{nullptr};

void timer_free(timer_core* t) noexcept {
  san::acquire(t);
  if (t->goroutine) spawn_abort(t->goroutine);
  if (t->function) t->function->destroy(t->storage());
  chan_unref(t->c);
  std::size_t bytes = t->bytes;
  t->~timer_core();
  block_give(t, bytes);
}

timer_core* make(std::size_t tail) {
  start_runtime();
  if (dead.load(std::memory_order_relaxed)) {
    timer_core* t = dead.exchange(nullptr, std::memory_order_acquire); // [REAP-1]
    while (t) timer_free(std::exchange(t, t->dead_next));
  }
  std::size_t bytes = sizeof(timer_core) + tail;
  void* p = block_take(bytes);
  if (!p) throw std::system_error(ENOMEM, std::generic_category(), "grt: no memory for a timer");
  auto* t = ::new (p) timer_core;
  t->bytes = static_cast<std::uint32_t>(bytes);
  return t;
}

// Drops the armed reference. Unlike timer_unref it does not free the core if this was the last reference.
void drop_armed(timer_core* t) noexcept {
  san::release(t);
  if (t->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return; // [REAP-1]
  timer_core* head = dead.load(std::memory_order_relaxed);
  do t->dead_next = head;
  while (!dead.compare_exchange_weak(head, t, std::memory_order_release, std::memory_order_relaxed)); // [REAP-1]
}

G* fire_channel(timer_node* n) {
  auto* t = static_cast<timer_core*>(n);
  std::uint64_t now = now_ns();
  time_point value{std::chrono::nanoseconds(now)};
  G* woken = nullptr;
  chan_lock(t->c);
  put_value(t->c, &value, woken); // buffer full: the receiver is late, this value is dropped
  chan_unlock(t->c);
  if (t->period) {
    auto period = static_cast<std::uint64_t>(t->period);
    std::uint64_t due = t->tick << wheel::tick_shift, next = add_ns(due, t->period);
    if (next <= now) next = add_ns(next + (now - next) / period * period, t->period);
    t->owner.load(std::memory_order_relaxed)->insert(t, next, now);
  } else {
    drop_armed(t);
  }
  return woken;
}

void call(void* closure) {
  struct holder { // the destructor also runs if the goroutine ends by grt::exit
    timer_core* t;
    ~holder() { timer_unref(t); }
  } h{static_cast<timer_core*>(spawn_load(closure))};
  h.t->function->run(h.t->storage());
}

// A timer without an attr takes the slot of its goroutine only now, because most timers are stopped before they fire.
// If no slot is free, it tries again in a millisecond.
G* fire_function(timer_node* n) {
  auto* t = static_cast<timer_core*>(n);
  void* at = std::exchange(t->goroutine, nullptr);
  if (!at) at = spawn_begin_inside(call, t->file, t->line, t);
  if (at) return spawn_fire(at);
  std::uint64_t now = now_ns();
  t->owner.load(std::memory_order_relaxed)->insert(t, add_ns(now, 1000000), now);
  return nullptr;
}

// Removes a value that was not received. Returns whether there was one.
bool drain(chan_core* c) noexcept {
  if (!c) return false;
  chan_lock(c);
  bool was = c->n;
  c->n = 0; // time_point needs no destructor, and nobody waits to send
  chan_unlock(c);
  return was;
}

// t->lock held.
bool disarm(timer_core* t) noexcept {
  bool pending = timer_cancel(t);
  if (pending) t->refs.fetch_sub(1, std::memory_order_relaxed); // not the last: the caller has one
  return drain(t->c) || pending;
}
} // namespace

timer_core* timer_make(chan_core* c) {
  timer_core* t = make(0);
  chan_ref(c);
  t->c = c;
  t->fire = fire_channel;
  return t;
}

timer_core* timer_make(const timer_function& f, void*& storage, const attr* a, call_site at) {
  std::unique_ptr<timer_core::kept_attr> with;
  if (a) {
    with.reset(new timer_core::kept_attr{std::string(a->name), *a});
    with->a.name = with->name;
  }
  timer_core* t = make(f.bytes);
  t->with = std::move(with);
  t->function = &f;
  t->file = at.file;
  t->line = at.line;
  t->fire = fire_function;
  storage = t->storage();
  return t;
}

void timer_forget_function(timer_core* t) noexcept { t->function = nullptr; }

// The caller has called hold(). t is not armed, and no other thread can arm it.
static void arm(timer_core* t, std::int64_t ns) noexcept {
  std::uint64_t now, when = deadline_in(ns, now);
  timer_arm(t, when, now);
}

// As timer_set, for a timer that only the caller knows: no lock is needed, and the count is known.
void timer_start(timer_core* t, std::int64_t ns, std::int64_t period) {
  if (t->with) return void(timer_set(t, ns, period));
  t->period = period;
  t->refs.store(2, std::memory_order_relaxed);
  holding h;
  arm(t, ns);
}

bool timer_set(timer_core* t, std::int64_t ns, std::int64_t period) {
  bool pending = false;
  for (;;) {
    queue_guard on(t->lock);
    pending |= disarm(t);
    if (t->c || t->goroutine || !t->with) {
      t->period = period;
      t->refs.fetch_add(1, std::memory_order_relaxed);
      arm(t, ns);
      return pending;
    }
    on.unlock();
    void* at = spawn_begin_here(call, t->file, t->line, &t->with->a);
    spawn_store(at, t);
    san::release(reinterpret_cast<char*>(at) - closure_offset);
    {
      queue_guard again(t->lock);
      std::swap(at, t->goroutine);
    }
    if (at) spawn_abort(at); // another call has prepared one meanwhile
  }
}

bool timer_stop(timer_core* t) noexcept {
  queue_guard on(t->lock);
  return disarm(t);
}

chan_core* timer_channel(timer_core* t) noexcept { return t->c; }
void timer_ref(timer_core* t) noexcept { t->refs.fetch_add(1, std::memory_order_relaxed); }
void timer_unref(timer_core* t) noexcept {
  san::release(t);
  if (t->refs.load(std::memory_order_acquire) == 1 ||       // [REAP-1] the last one sees what every holder did
      t->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) // [REAP-1]
    timer_free(t);
}

void throw_bad_period() { throw std::invalid_argument("grt: a ticker's period must be positive"); }
void throw_empty_timer() { throw std::logic_error("grt: reset of an empty timer"); }

} // namespace grt::detail
