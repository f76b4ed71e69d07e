// tests/support/attempt.hpp - does this operation block? Looks into the runtime, so that no test waits for a time.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include <grt/grt.hpp>

#include "sched/core/sched.hpp"

/// g waits, and whoever wakes it has not done so yet. Its owner may be about to park: then what it waits for is
/// published and guarded by the lock it parks under.
inline bool rests(grt::G* g) {
  if (g->kind == grt::g_kind::foreign) return __atomic_load_n(&g->birth, __ATOMIC_ACQUIRE) == 1;
  static_assert(static_cast<int>(grt::trace::wait_reason::none) == 0);
  return __atomic_load_n(reinterpret_cast<std::uint8_t*>(&g->reason), __ATOMIC_ACQUIRE) != 0;
}

/// Runs f in a goroutine of its own.
class attempt {
public:
  template <class F> explicit attempt(F f) {
    grt::go([s = s_, f = std::move(f)]() mutable {
      s->g.store(grt::self(), std::memory_order_release);
      f();
      s->ended.store(true, std::memory_order_release);
    });
  }
  bool ended() const { return s_->ended.load(std::memory_order_acquire); }
  /// Waits until f has ended or parked. true: it is parked.
  bool blocks() const {
    for (;; grt::yield()) {
      if (ended()) return false;
      grt::G* g = s_->g.load(std::memory_order_acquire);
      if (g && rests(g)) return true;
    }
  }
  void join() const {
    while (!ended()) grt::yield();
  }

private:
  struct state {
    std::atomic<grt::G*> g{nullptr};
    std::atomic<bool> ended{false};
  };
  std::shared_ptr<state> s_ = std::make_shared<state>();
};
