// sched/runtime/halt.hpp - goroutines stand still once exit() has begun, except while a thread of the program waits.
//
// After main has returned, destructors of static objects run on one thread. Goroutines that ran at the same time
// would use objects that have been destroyed. So exit() *halts* them: a goroutine that is running continues to its
// next call into the runtime, and no M switches to another goroutine (sched/protocol/halt.hpp). But a destructor may
// wait for a goroutine: it joins a static task, locks a mutex that a goroutine holds, or joins a std::thread that
// calls grt::run. Such a wait must end, or a report must say why it cannot. So a wait *lifts* the halt until the wait
// is over:
//
//   state     halted  waits  entered when
//   running   0       0      the program starts; exit() has not yet reached the runtime's handler
//   halted    1       0      that handler runs, or the last wait is over
//   lifted    0       > 0    the first wait of a thread of the program begins; everything is as before exit()
//
// What counts as a wait:
//   - A wait in grt of any thread, if it begins while `exiting` is set (foreign.cpp). There is one exception: a wait
//     of the main thread does not count if another thread runs exit(). Main then waits in grt::run for a goroutine
//     that has called std::exit(), and nobody needs main.
//   - The other waits, those of main and those that had begun before, do not count at once. But a destructor may join
//     a thread that waits in this way. So sysmon looks every 10 ms, and lifts the halt for good in two cases: the
//     exiting thread joins a thread that waits in grt; or exit() has not finished for a second, and any thread waits
//     in grt.
//
// The thread that calls exit() may be a thread of the runtime, if a goroutine called it. From the handler on it is a
// thread of the program, and its M belongs to no thread. The P stays with this M while goroutines stand still. The
// first lift hands it to another M, as sysmon does with a P whose goroutine blocks.
//
// While the halt is lifted a deadlock is reported as usual, since every thread that waits is known.
//
// Rejected:
//   goroutines run until the process ends   they use static objects that have been destroyed
//   no goroutine runs after exit() began    a static task hangs the exit without a word
#pragma once
#include <atomic>
#include <cstdint>

#include <grt/detail/config.hpp>

#include "arch/arch.hpp"

namespace grt {

struct M;

/// Set once, when the runtime's exit handler runs. From then on objects that abandoned goroutines use may be
/// destroyed.
extern std::atomic<bool> exiting;
/// 1: no g0 switches to a goroutine. The cost of a stale 0 is one more switch.
extern std::atomic<std::uint32_t> halted;

/// The runtime's exit handler (atexit). Afterwards goroutines stand still, and the caller is a thread of the program.
void halt_at_exit() noexcept;
/// Waits until goroutines may run. Caller: g0, inside, before it switches to a goroutine, if `halted`.
void await_lift(M* m) noexcept;
/// Caller: g0, outside, after enter() returned false. Returns true if it is inside now, false if its P was given to
/// another M.
bool rejoin(M* m) noexcept;
/// Watches the exit. Caller: sysmon, while `halted`. Returns when goroutines may run.
void watch_exit() noexcept;

/// Goroutines run while an object of this class exists, also during exit. Any thread of the program that holds no
/// lock.
class lift_halt {
public:
  lift_halt() noexcept : on_(GRT_UNLIKELY(exiting.load(std::memory_order_relaxed)) && begin()) {}
  ~lift_halt() {
    if (GRT_UNLIKELY(on_)) end();
  }
  lift_halt(const lift_halt&) = delete;
  lift_halt& operator=(const lift_halt&) = delete;

private:
  static bool begin() noexcept;
  static void end() noexcept;
  bool on_;
};

/// Is the process about to end? True if exit() has begun on any thread, or if the caller's stack is inside exit().
/// `exiting` alone does not tell, because objects made after the runtime are destroyed before its handler runs. Asked
/// before the misuse of an object in its destructor is reported.
bool process_ends() noexcept;

} // namespace grt
