// grt/detail/ending.hpp - the part of a cancellable context that waiting calls use. Not API.
//
// An `ending` ends at most once. It keeps a list of watchers: callbacks to run when it ends. `state` changes only
// under `lock`; `why` is `canceled` or `timed_out`:
//
//   0              The context has not ended.
//   why            A thread is ending the context and has still to close its done channel. The context has ended
//                  as soon as that channel is closed. Watchers may still enter the list; they are called soon.
//   why | settled  The context has ended. New watchers are refused.
//
// This makes over(), err() and done() agree at every moment; sync/context.cpp has the argument.
//
// Watchers are called under `lock`, so removing a watcher is synchronous: after remove() its callback is not
// running and will not run. Lock order: this lock, then the lock of the queue in which the watcher's goroutine
// waits. A callback must not block, allocate, or make a goroutine runnable. It returns the goroutine to make
// runnable, or null; the caller does that once the lock is free.
#pragma once
#include <atomic>
#include <cstdint>
#include <system_error>

#include <grt/detail/spin.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
struct G;
class context;

namespace detail {

/// An entry in the list of an ending.
struct watcher {
  watcher *later = nullptr, *sooner = nullptr; // the neighbours that were pushed after and before this one
  bool watching = false;                       // it is in the list. These three fields: under ending::lock
  G* (*ended)(watcher*) noexcept = nullptr;    // the callback
};

struct ending {
  static constexpr std::uint32_t canceled = 1, timed_out = 2, settled = 4;

  spin_lock lock;
  std::atomic<std::uint32_t> state{0};
  watcher *first = nullptr, *last = nullptr;

  /// Returns true if the context has ended. Never waits.
  bool over() const noexcept {
    std::uint32_t s = state.load(std::memory_order_acquire); // [CTX-1] makes the cause visible
    return s & settled || (s && closed_already());
  }
  /// Returns true if watchers can no longer be pushed. The caller holds `lock`.
  bool refuses() const noexcept { return state.load(std::memory_order_relaxed) & settled; }
  /// Appends w to the list. The caller holds `lock`, and refuses() is false.
  void push(watcher* w) noexcept {
    w->watching = true;
    w->later = nullptr;
    w->sooner = last;
    (last ? last->later : first) = w;
    last = w;
  }
  /// Removes w from the list. The caller holds `lock`, and w->watching is true.
  void remove(watcher* w) noexcept {
    w->watching = false;
    (w->sooner ? w->sooner->later : first) = w->later;
    (w->later ? w->later->sooner : last) = w->sooner;
  }

private:
  bool closed_already() const noexcept; // is the done channel closed? Call only while `state` is `why`
};

ending* ending_of(const context& c) noexcept; // null if c can never end
std::error_code error_of(std::uint32_t state) noexcept;
[[noreturn]] void throw_ended(const ending& e); // throws std::system_error
/// Returns ending_of(c). @throws std::system_error c has ended already: the call fails even if it could proceed at
/// once.
inline ending* check_ending(const context& c) {
  ending* e = ending_of(c);
  if (e && e->over()) throw_ended(*e);
  return e;
}

} // namespace detail
} // namespace grt

#pragma GCC visibility pop
