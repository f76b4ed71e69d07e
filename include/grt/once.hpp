// grt/once.hpp - once_flag and call_once (Go: sync.Once).
//
// sync.hpp states the rules that all such types share: who may call, what a wait is, contexts, when an object may be
// destroyed.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <utility>

#include <grt/detail/config.hpp>
#include <grt/mutex.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {

/// Records that a call_once has run its function.
class once_flag {
public:
  constexpr once_flag() noexcept = default;
  once_flag(const once_flag&) = delete;
  once_flag& operator=(const once_flag&) = delete;

private:
  template <class F, class... A> friend void call_once(once_flag& flag, F&& f, A&&... args);
  std::atomic<bool> done_{false};
  mutex running_;
};
/// Calls f(args...), unless a call for this flag has completed before. Callers that come during a call wait for its
/// end. If f throws, call_once throws the same, and the next caller calls its own f. f must not use the same flag,
/// because it would wait for itself. Cost once f has run: one load. Go: sync.Once (where a panic counts as done).
template <class F, class... A> void call_once(once_flag& flag, F&& f, A&&... args) {
  if (GRT_DETAIL_LIKELY(flag.done_.load(std::memory_order_acquire))) return; // [ONCE-1]
  std::lock_guard hold(flag.running_);
  if (flag.done_.load(std::memory_order_relaxed)) return;
  static_cast<void>(std::invoke(std::forward<F>(f), std::forward<A>(args)...));
  flag.done_.store(true, std::memory_order_release); // [ONCE-1] publishes what f did
}

} // namespace grt

#pragma GCC visibility pop
