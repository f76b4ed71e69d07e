// grt/detail/ending.hpp - what may end once, and who is told. Not API.
//
// The part of a cancellable context that waits know. `state` is 0 until the end and then says why, for good; whoever
// ends it sets it under `lock`, so that a watcher either stands in the list by then or is refused. Watchers are called
// under `lock` (order: this lock, then the lock of the queue the watcher's goroutine waits in), so that taking one out
// is synchronous: afterwards its callback does not run and will not. They may not block, allocate or ready anybody:
// they return whom to make runnable once the lock is free.
#pragma once
#include <atomic>
#include <cstdint>
#include <system_error>

#include <grt/detail/spin.hpp>

namespace grt {
struct G;
class context;

namespace detail {

struct watcher {
  watcher *later = nullptr, *sooner = nullptr;
  bool watching = false; // all three under ending::lock
  G* (*ended)(watcher*) noexcept = nullptr;
};

struct ending {
  static constexpr std::uint32_t canceled = 1, timed_out = 2, settled = 4; // settled: no channel is still to be closed

  spin_lock lock;
  std::atomic<std::uint32_t> state{0};
  watcher *first = nullptr, *last = nullptr;

  bool over() const noexcept { return state.load(std::memory_order_acquire); } // [CTX-1] sees the cause
  /// lock held, not over.
  void push(watcher* w) noexcept {
    w->watching = true;
    w->later = nullptr;
    w->sooner = last;
    (last ? last->later : first) = w;
    last = w;
  }
  /// lock held; w is watching.
  void remove(watcher* w) noexcept {
    w->watching = false;
    (w->sooner ? w->sooner->later : first) = w->later;
    (w->later ? w->later->sooner : last) = w->sooner;
  }
};

ending* ending_of(const context& c) noexcept; // null: it can never end
std::error_code error_of(std::uint32_t state) noexcept;
[[noreturn]] void throw_ended(const ending& e);
/// An ended context fails also what could go on at once.
inline ending* check_ending(const context& c) {
  ending* e = ending_of(c);
  if (e && e->over()) throw_ended(*e);
  return e;
}

} // namespace detail
} // namespace grt
