// sched/core/poller.hpp - the interface to a poller, which waits for events from outside the process.
//
// The scheduler knows three verbs, and does not know how events are found (readiness or completion). While the poller
// is armed, the leader sleeps in wait() instead of on its futex; see "The poller" in protocol/sleep.hpp. The default is
// the null poller (idle.cpp), which is never armed. A real poller replaces it once, before it is armed for the first
// time.
#pragma once
#include <cstdint>

namespace grt {

struct G;

// Until a real poller is there, only a leader that sleeps calls wait(), and always for some time. While no M is idle
// nobody polls.
struct poller {
  /// Sleeps until there is an event, or an interrupt() for which no wait() has returned yet, or until `ns` nanoseconds
  /// are over (-1: no limit; 0: does not sleep). Returns the goroutines that can go on, linked by G::link. Consumes
  /// every interrupt up to now. Caller: an M on g0, inside its bracket, one at a time. Allocates nothing.
  G* (*wait)(std::int64_t ns) noexcept;
  /// Ends the present wait(), or the next one. Any thread may call it, under any lock.
  void (*interrupt)() noexcept;
  /// Does any goroutine wait for an event for which wait() has not returned it yet? Any thread may call it. The answer
  /// is exact on the thread that armed the poller.
  bool (*armed)() noexcept;
};

/// The poller of this process: the null poller until set_poller().
const poller& current_poller() noexcept;
/// Once, before p is armed for the first time. p lives as long as the process.
void set_poller(const poller& p) noexcept;
/// Called by the poller after armed() has become true: the leader goes to wait() if it sleeps elsewhere. Any thread.
void poller_armed() noexcept;

} // namespace grt
