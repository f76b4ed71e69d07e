// chan/select.cpp - runs a select: the fast path, the locked attempt, the wait. select.hpp has the protocol.
#include "chan/select.hpp"

#include <grt/context.hpp>
#include <grt/select.hpp>

#include <algorithm>
#include <functional>
#include <memory>

#include "sched/core/foreign.hpp"
#include "sched/core/sched.hpp"
#include "sched/wait/limit.hpp"

namespace grt::detail {
namespace {

struct selecting : commit_record, select_channels {
  select_state s;
  struct alarm : limiter {
    selecting* self = nullptr;
  } until;
  bool limited = false;

  // One hold() for all the locks, because a park ends one hold.
  void lock_all() noexcept {
    hold();
    for (unsigned i = 0; i < n_order; i++) {
      order[i]->lock.lock();
      order[i]->lock.tsan_acquire();
    }
  }
  void give_all_back() noexcept {
    tsan_release_all();
    unlock_all();
    let_loose();
  }
  // Must not read this record after the last release: it may be gone by then. Not instrumented, because on the far side
  // of a switch it reads the parked goroutine's stack.
  [[gnu::noinline]] __attribute__((no_sanitize("thread"))) void unlock_all() noexcept {
    unsigned n = n_order;
    bool last_is_ours = limited;
    chan_core** o = order;
    for (unsigned i = 0; i < n; i++) {
      chan_core* c = o[i];
      unlock_far_side(c->lock);
      if (i + 1 == n && !last_is_ours) return;
    }
    if (last_is_ours) unlock_far_side(s.lock);
  }
  void tsan_release_all() noexcept {
    for (unsigned i = 0; i < n_order; i++) order[i]->lock.tsan_release();
    s.lock.tsan_release();
  }
};

G* on_limit(limiter* l) noexcept {
  selecting* r = static_cast<selecting::alarm*>(l)->self;
  spin_guard hold(r->s.lock);
  r->s.lock.tsan_acquire();
  std::uint32_t none = 0;
  // [SEL-1]
  if (!r->s.fired.compare_exchange_strong(none, fired_timeout, std::memory_order_acq_rel)) return nullptr;
  return r->s.parked ? r->s.g : nullptr;
}

// Not instrumented: successive owners of a P update P::random, and TSan does not see what orders them.
[[gnu::noinline]] __attribute__((no_sanitize("thread"))) std::uint32_t next_random() noexcept {
  M* m = me();
  static std::atomic<std::uint32_t> foreign{2463534242};
  std::uint32_t x = m ? m->p->random : foreign.load(std::memory_order_relaxed);
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  if (m) m->p->random = x;
  else foreign.store(x, std::memory_order_relaxed);
  return x;
}

unsigned sort_locks(const select_args& a, chan_core** order) noexcept {
  unsigned n = 0;
  if (a.n > 16) {
    for (unsigned i = 0; i < a.n; i++)
      if (chan_core* c = a.cases[i]->c) order[n++] = c;
    std::sort(order, order + n, std::less<>());
    return static_cast<unsigned>(std::unique(order, order + n) - order);
  }
  for (unsigned i = 0; i < a.n; i++) {
    chan_core* c = a.cases[i]->c;
    if (!c) continue;
    unsigned j = n;
    while (j && order[j - 1] > c) j--;
    if (j && order[j - 1] == c) continue;
    for (unsigned k = n++; k > j; k--) order[k] = order[k - 1];
    order[j] = c;
  }
  return n;
}

unsigned random_below(unsigned n) noexcept { return static_cast<unsigned>((std::uint64_t{next_random()} * n) >> 32); }

GRT_DETAIL_INLINE bool looks_ready(const select_case& k) noexcept {
  chan_core* c = k.c;
  if (!c) return false;
  if (__atomic_load_n(&c->closed, __ATOMIC_ACQUIRE)) return true; // [CLOSE-1] try_one does not hold the lock
  std::uint32_t n = __atomic_load_n(&c->n, __ATOMIC_RELAXED);
  const wait_queue& q = k.send ? c->receivers : c->senders;
  return (k.send ? n < c->capacity : n != 0) || __atomic_load_n(&q.head, __ATOMIC_RELAXED) != nullptr;
}

// k.c is not null, and its lock is held. Returns true if the case is done. The caller makes `woken` ready after it has
// released the lock.
bool perform(select_case& k, G*& woken, bool& ok) noexcept {
  ok = !(k.send && k.c->closed);
  if (!ok || (k.send ? put_value(k.c, k.elem, woken) : get_value(k.c, k.elem, woken))) return true;
  ok = false;
  return k.c->closed; // false: the case looked ready because of stale waiters
}

// The fast path. A case that is ready needs only the lock of its own channel. Returns false if no case looks ready, or
// if the chosen one is no longer ready.
bool try_one(const select_args& a, unsigned* scratch, int& index, bool& ok) noexcept {
  if constexpr (GRT_DETAIL_TSAN) return false; // the race is intended; a TSan build uses the locks only
  unsigned n = 0;
  for (unsigned i = 0; i < a.n; i++)
    if (looks_ready(*a.cases[i])) scratch[n++] = i;
  if (!n) return false;
  index = static_cast<int>(scratch[n == 1 ? 0 : random_below(n)]);
  select_case& k = *a.cases[index];
  G* woken = nullptr;
  chan_lock(k.c);
  bool done = perform(k, woken, ok);
  chan_unlock(k.c);
  if (woken) ready(woken);
  return done;
}

// Locks held. Tries the ready cases in random order. Returns true if case `index` is done; all locks are then free.
bool try_ready(const select_args& a, selecting& r, unsigned* scratch, int& index, bool& ok) noexcept {
  unsigned n = 0;
  for (unsigned i = 0; i < a.n; i++)
    if (looks_ready(*a.cases[i])) scratch[n++] = i;
  while (n) {
    unsigned at = n == 1 ? 0 : random_below(n);
    index = static_cast<int>(scratch[at]);
    G* woken = nullptr;
    if (perform(*a.cases[index], woken, ok)) {
      r.limited = false; // s.lock is not held
      r.give_all_back();
      if (woken) ready(woken);
      return true;
    }
    scratch[at] = scratch[--n];
  }
  return false;
}

__attribute__((no_sanitize("thread"))) void far_side(commit_record* c) { static_cast<selecting*>(c)->unlock_all(); }

[[gnu::noinline]] int wait_for_one(const select_args& a, selecting& r, unsigned* order, bool& ok) {
  G* g = r.s.g;
  bool mixed = r.n_order < a.n; // several cases may have the same channel: their order in its queue is random
  if (mixed) {
    for (unsigned i = 0; i < a.n; i++) order[i] = i;
    for (unsigned i = a.n; i > 1; i--) std::swap(order[i - 1], order[random_below(i)]);
  }
  for (unsigned i = 0; i < a.n; i++) {
    unsigned at = mixed ? order[i] : i;
    select_case& k = *a.cases[at];
    k.queued = k.c != nullptr;
    if (!k.c) continue;
    k.tag = at + 1;
    k.w.elem = k.elem;
    k.w.sel = &r.s;
    k.send ? k.c->queue_sender(&k.w) : k.c->queue_receiver(&k.w);
  }
  r.tsan_release_all();
  r.fn = far_side;
  bool limited = r.limited;
  park(g, commit_of(&r), wait_reason::select, static_cast<select_channels*>(&r));
  ok = g->ok;
  for (unsigned i = 0; i < a.n; i++) {
    select_case& k = *a.cases[i];
    if (!k.c) continue;
    if (r.s.fired.load(std::memory_order_relaxed) == i + 1)
      continue; // the winner took it out, under a lock that the far side had released
    chan_lock(k.c);
    if (k.queued) (k.send ? k.c->senders : k.c->receivers).remove(&k.w);
    chan_unlock(k.c);
  }
  if (limited) { // wait for the far side's last release
    held_guard wait(r.s.lock);
    r.limited = false;
  }
  std::uint32_t f = r.s.fired.load(std::memory_order_acquire); // [SEL-1]
  return f == fired_timeout ? select_timeout : static_cast<int>(f) - 1;
}
} // namespace

int select_run(const select_args& a, bool& ok) {
  chan_core* few[8];
  unsigned few_index[8];
  std::unique_ptr<chan_core*[]> many;
  std::unique_ptr<unsigned[]> many_index;
  chan_core** order = few;
  unsigned* scratch = few_index;
  if (a.n > 8 && a.room) {
    order = a.room->order;
    scratch = a.room->index;
  } else if (a.n > 8) {
    many.reset(new chan_core*[a.n]);
    many_index.reset(new unsigned[a.n]);
    order = many.get();
    scratch = many_index.get();
  }
  int index;
  if (try_one(a, scratch, index, ok)) return index;
  selecting r;
  r.order = order;
  r.n_order = sort_locks(a, r.order);
  r.lock_all();
  if (try_ready(a, r, scratch, index, ok)) return index;
  if (a.has_default || a.timeout_ns == 0) {
    r.give_all_back();
    return a.has_default ? select_default : select_timeout;
  }
  limit to{a.timeout_ns, a.ctx};
  M* m = me();
  if (!to && r.n_order && (r.s.g = m ? m->g : foreign_known()))
    return wait_for_one(a, r, scratch, ok); // NOLINT: no case is in a queue any more
  r.give_all_back();
  r.s.g = self(); // throws perhaps, if it is a thread's first wait: no lock is held, and no case is in a queue yet
  if (!to && !r.n_order) chan_nil_block(false);
  if (to) {
    r.until.self = &r;
    r.until.expire = on_limit;
    r.until.arm(to);
  }
  r.lock_all();
  if (try_ready(a, r, scratch, index, ok)) {
    r.until.disarm();
    return index;
  }
  if (!to) return wait_for_one(a, r, scratch, ok); // NOLINT: as above
  r.s.lock.lock();
  if (r.s.fired.load(std::memory_order_acquire)) { // [SEL-1] the limit came first
    r.limited = true;
    r.give_all_back();
    r.until.disarm();
    return select_timeout;
  }
  r.s.parked = true;
  r.limited = true;
  index = wait_for_one(a, r, scratch, ok);
  r.until.disarm(); // also if the limit fired: its callback may still hold its lock
  return index;     // NOLINT: as above
}

// ---- one operation with a limit

namespace {
outcome run_one(chan_core* c, void* elem, bool send, std::int64_t ns, const context* ctx) {
  ending* e = ctx ? check_ending(*ctx) : nullptr;
  select_case k;
  k.c = c;
  k.elem = elem;
  k.send = send;
  select_case* one = &k;
  bool ok;
  if (select_run({&one, 1, false, ns, e}, ok) >= 0) return ok ? outcome::ok : outcome::closed;
  if (e) throw_ended(*e);
  return outcome::blocked;
}
} // namespace

outcome chan_send_for(chan_core* c, void* from, std::int64_t ns) { return run_one(c, from, true, ns, nullptr); }
outcome chan_recv_for(chan_core* c, void* to, std::int64_t ns) { return run_one(c, to, false, ns, nullptr); }
outcome chan_send_in(chan_core* c, void* from, const context& ctx) { return run_one(c, from, true, -1, &ctx); }
outcome chan_recv_in(chan_core* c, void* to, const context& ctx) { return run_one(c, to, false, -1, &ctx); }

} // namespace grt::detail
