// sched/core/poller.hpp - the port to whatever waits for events from outside the process.
//
// The scheduler knows three verbs and nothing of how events are found (readiness or completion). While the poller is
// armed, the leading sleeper sleeps in wait() instead of on its futex; see protocol/sleep.hpp, "The poller". The null
// poller below is never armed. A real one takes its place once, before it is armed for the first time.
#pragma once
#include <cstdint>

namespace grt {

struct G;

struct poller {
  /// Sleeps until an event, an interrupt() that no wait() has returned for yet, or `ns` nanoseconds (-1: no limit; 0:
  /// only looks). Returns the goroutines that can go on, linked by G::link. Takes every interrupt that has come so far.
  /// Caller: an M on g0, inside its bracket, one at a time. Allocates nothing.
  G* (*wait)(std::int64_t ns) noexcept;
  /// Ends the wait() that goes on, or the next one. Any thread, any lock held.
  void (*interrupt)() noexcept;
  /// Does any goroutine wait for an event that wait() has not returned it for? Any thread; exact for the one that armed it.
  bool (*armed)() noexcept;
};

/// The poller of this process: the null poller until set_poller().
const poller& current_poller() noexcept;
/// Once, before p is armed for the first time. p lives as long as the process.
void set_poller(const poller& p) noexcept;
/// Called by the poller after armed() has become true: the leader goes to wait() if it sleeps elsewhere. Any thread.
void poller_armed() noexcept;

} // namespace grt
