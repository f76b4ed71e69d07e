// grt/detail/ending.hpp - what may end once, and who is told. Not API.
//
// The part of a cancellable context that waits know. `state` changes under `lock`:
//
//   0              it has not ended
//   why            somebody ends it, and its done channel is still to be closed: it has ended once that is closed
//   why | settled  it has ended; watchers are refused. Before that they may enter the list, and are called soon
//
// So over(), err() and done() agree at every moment: see context.cpp. Watchers are called
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
  static constexpr std::uint32_t canceled = 1, timed_out = 2, settled = 4;

  spin_lock lock;
  std::atomic<std::uint32_t> state{0};
  watcher *first = nullptr, *last = nullptr;

  /// It has ended. Never waits.
  bool over() const noexcept {
    std::uint32_t s = state.load(std::memory_order_acquire); // [CTX-1] sees the cause
    return s & settled || (s && closed_already());
  }
  /// lock held.
  bool refuses() const noexcept { return state.load(std::memory_order_relaxed) & settled; }
  /// lock held, refuses() is false.
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

private:
  bool closed_already() const noexcept; // its done channel, while somebody ends it
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
