// sched/time/sleep.cpp - sleeping.
//
// The timer node is on the stack of the sleeping goroutine, which parks under the lock of its wheel.
#include <grt/time.hpp>

#include <cerrno>
#include <ctime>

#include "sched/core/sched.hpp"

namespace grt::detail {
namespace {
struct sleeper : timer_node {
  G* g = nullptr;
};
} // namespace

void sleep_ns(std::int64_t ns) {
  M* m = me();
  if (!m) {
    timespec t{static_cast<time_t>(ns / 1000000000), static_cast<long>(ns % 1000000000)};
    while (nanosleep(&t, &t) && errno == EINTR) {
    }
    return;
  }
  if (ns <= 0) return yield_here(m);
  sleeper s;
  s.g = m->g;
  s.fire = [](timer_node* n) { return static_cast<sleeper*>(n)->g; };
  std::uint64_t now = now_ns(), when = add_ns(now, ns);
  hold();
  wheel& w = timer_home()->timers;
  w.lock.lock();
  w.insert(&s, when, now);
  timer_added(when);
  w.lock.tsan_release();
  park(s.g, release_of(&w.lock), wait_reason::sleep);
}

} // namespace grt::detail
