// sync/wait.cpp - shared_mutex, condition_variable, semaphores, latch, barrier. Each is a spin lock, some numbers and a
// queue.
//
// All follow one rule. A thread that changes the numbers does this:
//   1. Under the lock, it takes those waiters out of the queue that can go on now, and grants them what they wait for.
//   2. It releases the lock. That is its last access to the object, because a woken goroutine may destroy it.
//   3. It makes the waiters ready, from a list of its own.
// So a newcomer that finds an empty queue may go on if the numbers allow it; otherwise it joins the queue.
//
// A waiter that gives up (time-out, context) has left the queue under the lock. If it was the first, waiters behind it
// may be able to go on now, and it admits them.
#include <grt/context.hpp>
#include <grt/sync.hpp>

#include <stdexcept>

#include "base/check.hpp"
#include "sched/runtime/halt.hpp"
#include "sched/wait/waiting.hpp"

namespace grt {

// ---- shared_mutex. waiting::n: 1 exclusive, 0 shared.

bool shared_mutex::admit(bool exclusive) noexcept {
  if (writer_ || (exclusive && readers_)) return false;
  exclusive ? void(writer_ = true) : void(readers_++);
  return true;
}

void shared_mutex::admit_waiters(wake_list& wakes) noexcept {
  while (detail::waiter* w = queue_.head) {
    if (!admit(waiting_of(w).n)) return;
    wakes.take(queue_.pop());
  }
}

bool shared_mutex::lock_ns(bool exclusive, std::int64_t timeout_ns, detail::ending* ctx) {
  {
    queue_guard hold(lock_);
    if (queue_.empty() && admit(exclusive)) return true;
    if (timeout_ns == 0) return false;
  }
  waiting r(lock_, queue_, {timeout_ns, ctx});
  r.n = exclusive;
  queue_guard hold(lock_);
  if (queue_.empty() && admit(exclusive)) return true;
  if (!r.enqueue()) return false;
  hold.hand_over();
  if (r.park_here(wait_reason::shared_mutex, this)) return true;
  wake_list wakes;
  queue_guard again(lock_);
  admit_waiters(wakes); // those that waited only because we were before them
  again.unlock();
  wakes.ready_all();
  return false;
}

void shared_mutex::lock(const context& ctx) {
  detail::ending* e = detail::check_ending(ctx);
  if (!lock_ns(true, -1, e)) detail::throw_ended(*e);
}

void shared_mutex::lock_shared(const context& ctx) {
  detail::ending* e = detail::check_ending(ctx);
  if (!lock_ns(false, -1, e)) detail::throw_ended(*e);
}

void shared_mutex::unlock() noexcept {
  wake_list wakes;
  queue_guard hold(lock_);
  if (!writer_) misused("unlock of an unlocked grt::shared_mutex");
  writer_ = false;
  admit_waiters(wakes);
  hold.unlock();
  wakes.ready_all();
}

void shared_mutex::unlock_shared() noexcept {
  wake_list wakes;
  queue_guard hold(lock_);
  if (!readers_) misused("unlock_shared of a grt::shared_mutex nobody shares");
  readers_--;
  admit_waiters(wakes);
  hold.unlock();
  wakes.ready_all();
}

void shared_mutex::destroyed_locked() noexcept {
  if (!process_ends()) fatal("a locked grt::shared_mutex is destroyed");
}

void shared_mutex::misused(const char* how) noexcept { fatal(how); }

namespace detail {

void throw_bad_count() { throw std::invalid_argument("grt: a count is negative or above max()"); }

// ---- condition_variable

condition_core::~condition_core() {
  bool waited;
  {
    queue_guard hold(lock_);
    waited = !queue_.empty();
  }
  if (waited) {
    if (process_ends()) return;
    fatal("a grt::condition_variable is destroyed while it is waited on");
  }
  // [COND-1] All goroutines inside wait() are runnable, so this ends. At exit they may never run again.
  while (inside_.load(std::memory_order_acquire) && !halted.load(std::memory_order_relaxed)) yield();
}

// waiting::n of a waiter that was taken: 1 if notify_one took it, 0 if notify_all did.
bool condition_core::wait(std::int64_t timeout_ns, detail::ending* ctx, void (*unlock)(void*), void* lock) {
  struct stay {
    condition_core& c;
    explicit stay(condition_core& in) noexcept : c(in) { c.inside_.fetch_add(1, std::memory_order_relaxed); }
    ~stay() { c.inside_.fetch_sub(1, std::memory_order_release); } // [COND-1] last access
  };
  struct place { // the caller's place in the queue, until it parks
    condition_core& c;
    waiting& r;
    bool given_up = true;
    ~place() {
      if (given_up) c.give_up(r);
    }
  };
  // The caller still holds its lock, so no notifier can have destroyed the condition variable.
  stay here(*this);
  waiting r(lock_, queue_, {timeout_ns, ctx}); // throws if there is no memory: it is in no queue yet
  {
    queue_guard hold(lock_);
    if (!r.enqueue()) {
      hold.unlock();
      unlock(lock);
      return false;
    }
  }
  place mine{*this, r};
  unlock(lock); // a notifier may take us from here on. unlock may throw, also because the goroutine calls exit()
  mine.given_up = false;
  queue_guard hold(lock_);
  hold.hand_over();
  return r.park_here(wait_reason::condition_variable, this);
}

// The waiter leaves by an exception. If notify_one took it, the notification is passed on to the next waiter; otherwise
// it would be lost. notify_all has taken everybody that waited, so there is nothing to pass on.
void condition_core::give_up(waiting& r) noexcept {
  wake_list wakes;
  queue_guard hold(lock_);
  if (r.state == waiting::queued) {
    queue_.remove(&r.w);
    r.state = waiting::expired;
  } else if (r.state == waiting::taken && r.n) {
    take_first(wakes, true);
  }
  hold.unlock();
  wakes.ready_all();
}

// lock_ held. Returns false if nobody waits.
bool condition_core::take_first(wake_list& wakes, bool one) noexcept {
  waiter* w = queue_.pop();
  if (!w) return false;
  waiting_of(w).n = one;
  wakes.take(w);
  return true;
}

void condition_core::wait(const context& ctx, void (*unlock)(void*), void* lock) {
  ending* e = check_ending(ctx);
  if (!wait(-1, e, unlock, lock)) throw_ended(*e);
}

void condition_core::notify(bool all) noexcept {
  wake_list wakes;
  queue_guard hold(lock_);
  while (take_first(wakes, !all) && all) {
  }
  hold.unlock();
  wakes.ready_all();
}

// ---- semaphores. waiting::n: how many the waiter wants.

void semaphore_core::admit_waiters(wake_list& wakes) noexcept {
  while (waiter* w = queue_.head) {
    auto n = static_cast<std::int64_t>(waiting_of(w).n);
    if (n > count_) return;
    count_ -= n;
    wakes.take(queue_.pop());
  }
}

bool semaphore_core::acquire(std::int64_t n, std::int64_t timeout_ns, ending* ctx) {
  auto take = [&] {
    if (!queue_.empty() || n > count_) return false;
    count_ -= n;
    return true;
  };
  {
    queue_guard hold(lock_);
    if (take()) return true;
    if (timeout_ns == 0) return false;
  }
  waiting r(lock_, queue_, {timeout_ns, ctx});
  r.n = static_cast<std::uint64_t>(n);
  queue_guard hold(lock_);
  if (take()) return true;
  if (!r.enqueue()) return false;
  hold.hand_over();
  if (r.park_here(wait_reason::semaphore, this)) return true;
  wake_list wakes;
  queue_guard again(lock_);
  admit_waiters(wakes); // a smaller request behind ours
  again.unlock();
  wakes.ready_all();
  return false;
}

void semaphore_core::acquire(std::int64_t n, const context& ctx) {
  ending* e = check_ending(ctx);
  if (!acquire(n, -1, e)) throw_ended(*e);
}

void semaphore_core::release(std::int64_t n, std::int64_t most) {
  wake_list wakes;
  queue_guard hold(lock_);
  if (n > most - count_) {
    hold.unlock();
    throw std::logic_error("grt: counting_semaphore: release above max()");
  }
  count_ += n;
  admit_waiters(wakes);
  hold.unlock();
  wakes.ready_all();
}

// ---- barrier

bool barrier_core::arrive(std::ptrdiff_t n, bool drop, std::uint64_t& phase) {
  queue_guard hold(lock_);
  if (n <= 0 || n > left_) {
    hold.unlock();
    throw std::logic_error("grt: barrier: more arrive than are expected");
  }
  phase = phase_;
  left_ -= n;
  if (drop) expected_--;
  return left_ == 0;
}

// Nobody else can arrive meanwhile, because everybody that this phase expects has arrived.
void barrier_core::release() noexcept {
  wake_list wakes;
  queue_guard hold(lock_);
  phase_++;
  left_ = expected_;
  while (waiter* w = queue_.pop()) wakes.take(w);
  hold.unlock();
  wakes.ready_all();
}

bool barrier_core::wait_until_over(std::uint64_t phase, ending* ctx) {
  waiting r(lock_, queue_, {-1, ctx});
  queue_guard hold(lock_);
  if (phase_ != phase) return true;
  if (!r.enqueue()) return false;
  hold.hand_over();
  return r.park_here(wait_reason::barrier, this);
}

void barrier_core::wait(std::uint64_t phase) { wait_until_over(phase, nullptr); }

void barrier_core::wait(std::uint64_t phase, const context& ctx) {
  ending* e = check_ending(ctx);
  if (!wait_until_over(phase, e)) throw_ended(*e);
}
} // namespace detail

// ---- latch

void latch::count_down(std::ptrdiff_t n) {
  wake_list wakes;
  queue_guard hold(lock_);
  if (n < 0 || n > count_) {
    hold.unlock();
    throw std::logic_error("grt: latch counted down below zero");
  }
  if (!(count_ -= n))
    while (detail::waiter* w = queue_.pop()) wakes.take(w);
  hold.unlock();
  wakes.ready_all();
}

bool latch::try_wait() const noexcept {
  queue_guard hold(lock_);
  return !count_;
}

bool latch::wait_until_over(detail::ending* ctx) const {
  if (try_wait()) return true;
  waiting r(lock_, queue_, {-1, ctx});
  queue_guard hold(lock_);
  if (!count_) return true;
  if (!r.enqueue()) return false;
  hold.hand_over();
  return r.park_here(wait_reason::latch, this);
}

void latch::wait() const { wait_until_over(nullptr); }

void latch::wait(const context& ctx) const {
  detail::ending* e = detail::check_ending(ctx);
  if (!wait_until_over(e)) detail::throw_ended(*e);
}

} // namespace grt
