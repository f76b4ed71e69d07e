// sched/wait/limit.cpp - see limit.hpp.
//
// This folder is not instrumented by ThreadSanitizer, so it is told of the locks that are taken here.
#include "sched/wait/limit.hpp"

#include <grt/time.hpp>

#include "sched/core/sched.hpp"
#include "sched/wait/timed.hpp"
#include "sched/wait/waiting.hpp"

namespace grt {
namespace {
G* on_time(timer_node* n) {
  auto* l = static_cast<limiter*>(n);
  return l->expire(l);
}
G* on_end(detail::watcher* w) noexcept {
  auto* l = static_cast<limiter*>(w);
  return l->expire(l);
}

class told_guard { // guards a lock that instrumented code takes as well, and tells ThreadSanitizer
public:
  explicit told_guard(spin_lock& l) noexcept : l_(l) {
    hold();
    l_.lock();
    san::acquire(&l_.word);
  }
  ~told_guard() {
    san::release(&l_.word);
    l_.unlock();
    let_loose();
  }
  told_guard(const told_guard&) = delete;
  told_guard& operator=(const told_guard&) = delete;

private:
  spin_lock& l_;
};

G* expire_timed(limiter* l) noexcept {
  auto* t = static_cast<timed_wait*>(l);
  told_guard hold(*t->lock);
  t->expired = true;
  if (t->g->ok != ok_waiting) return nullptr;
  t->queue->remove(&t->g->w);
  t->g->ok = ok_expired;
  if (t->count) t->count->fetch_sub(1, std::memory_order_relaxed);
  return t->g;
}

G* expire_waiting(limiter* l) noexcept {
  auto* r = static_cast<waiting*>(l);
  told_guard hold(r->lock);
  bool was_queued = r->state == waiting::queued;
  if (was_queued) r->queue.remove(&r->w);
  if (was_queued || r->state == waiting::idle) r->state = waiting::expired;
  return was_queued && r->parked ? r->g : nullptr;
}
} // namespace

void limiter::arm(const limit& to) noexcept {
  if (to.ns >= 0) {
    timed = true;
    fire = on_time;
    std::uint64_t now = now_ns(), when = add_ns(now, to.ns);
    holding h;
    timer_arm(this, when, now);
  }
  if (!to.ctx) return;
  ended = on_end;
  {
    told_guard hold(to.ctx->lock);
    if (!to.ctx->refuses()) {
      to.ctx->push(this);
      on = to.ctx;
      return;
    }
  }
  holding h;
  expire(this); // the caller has not parked, so there is no goroutine to wake
}

void limiter::disarm_slow() noexcept {
  if (timed) {
    holding h;
    timer_cancel(this);
  }
  if (!on) return;
  told_guard hold(on->lock);
  if (watching) on->remove(this);
}

void timed_wait::arm(const limit& to) noexcept {
  expire = expire_timed;
  g->ok = 0;
  limiter::arm(to);
}

void waiting::arm(const limit& to) noexcept {
  expire = expire_waiting;
  limiter::arm(to);
}

namespace detail {

std::error_code error_of(std::uint32_t state) noexcept {
  if (!state) return {};
  return std::make_error_code(state & ending::timed_out ? std::errc::timed_out : std::errc::operation_canceled);
}
// [CTX-1]
void throw_ended(const ending& e) {
  throw std::system_error(error_of(e.state.load(std::memory_order_acquire)), "grt: the context has ended");
}

void sleep_within(std::int64_t ns, const context& ctx) {
  ending* e = check_ending(ctx);
  if (!e || ns <= 0) return sleep_ns(ns);
  spin_lock lock;
  wait_queue queue;
  waiting r(lock, queue, {ns, e});
  queue_guard hold(lock);
  if (r.enqueue()) {
    hold.hand_over();
    r.park_here(wait_reason::sleep, nullptr);
  }
  if (e->over()) throw_ended(*e);
}

} // namespace detail
} // namespace grt
