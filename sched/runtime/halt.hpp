// sched/runtime/halt.hpp - goroutines stand still once exit() has begun, and go on while a thread of the program waits for
// them.
//
// After main has returned, destructors of static objects run on one thread. Goroutines that ran meanwhile would use
// objects that are gone. So exit() halts them: what runs goes on to its next call into the runtime, and no other
// goroutine is dispatched (sched/protocol/halt.hpp). But a destructor may wait for a goroutine: it joins a static task, locks
// a mutex that a goroutine holds, or joins a std::thread that calls grt::run. Such a wait must end, or a report must
// say why it cannot. So a wait lifts the halt until it is over:
//
//   state     halted  waits  entered when
//   running   0       0      before exit() has reached the handler of the runtime
//   halted    1       0      that handler runs; the last wait is over
//   lifted    0       > 0    the first wait of a thread of the program begins; everything is as before exit()
//
// What counts as a wait:
//   - Each wait of a thread in grt that begins while `exiting` is set (foreign.cpp), but for the main thread's if
//   another
//     thread runs exit(): main waits in grt::run for a goroutine that has called std::exit(), and nobody needs main.
//   - The others, main's and those that had begun before, do not count at once. But a destructor may join a thread that
//     waits so. Sysmon looks every 10 ms. It lifts the halt for good if the exiting thread joins a thread that waits in
//     grt, or if exit() has not finished for a second and any thread waits in grt.
//
// The thread that calls exit() may be one of the runtime's: a goroutine called it. From the handler on it is a thread
// of the program, and its M is nobody's. The P stays with this M while goroutines stand still. The first lift hands it
// to another M, as sysmon does with a P whose goroutine blocks.
//
// While the halt is lifted a deadlock is reported as ever, since every thread that waits is known. Rejected: to let
// goroutines run until the end of the process (they use static objects that are gone); to run none at all (a static
// task hangs the exit without a word).
#pragma once
#include <atomic>
#include <cstdint>

#include <grt/detail/config.hpp>

#include "arch/arch.hpp"

namespace grt {

struct M;

/// The handler of the runtime has run. Set once. Objects that abandoned goroutines use may be destroyed from then on.
extern std::atomic<bool> exiting;
/// 1: no g0 switches to a goroutine. stale 0: one more switch.
extern std::atomic<std::uint32_t> halted;

/// atexit. Afterwards goroutines stand still, and the caller is a thread of the program.
void halt_at_exit() noexcept;
/// g0, inside, before it switches to a goroutine, if `halted`. Waits until goroutines may run.
void await_lift(M* m) noexcept;
/// g0, outside, whose bracket said no. true: inside. false: its P is another M's.
bool rejoin(M* m) noexcept;
/// Sysmon, while `halted`. Returns when goroutines may run.
void watch_exit() noexcept;

/// Goroutines run while one exists, exit or not. Any thread of the program that holds no lock.
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

/// Asked before the misuse of an object in its destructor is reported. Is the process about to end: has exit() begun,
/// on whatever thread, or does the caller's stack stand in it? Objects made after the runtime are destroyed before its
/// handler runs, so `exiting` alone does not tell.
bool process_ends() noexcept;

} // namespace grt
