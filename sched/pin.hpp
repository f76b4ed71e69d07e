// sched/pin.hpp - pinned goroutines; the protocol stands in pin.cpp.
#pragma once

namespace grt {

struct G;
struct M;
M* keeper_make();                // a thread that waits for its goroutine; throws std::system_error
void keeper_drop(M* m) noexcept; // one whose goroutine was never started
void lend(M* m, G* g) noexcept;  // g0, inside: g runs on its keeper with m's P until it parks, yields or ends

// start.cpp
M* m_make(unsigned id); // procs_max: the next number from there on; throws std::system_error
/// A detached thread that blocks all signals but faults. Any thread. Returns an errno value.
int thread_start(void* (*main)(void*), void* arg) noexcept;
/// What every thread that runs goroutines does first. On return its signal mask is the program's.
void thread_enter(M* m) noexcept;
void thread_leave() noexcept;   // and last
unsigned threads() noexcept;    // those of the runtime
bool back_on_g0(M* m) noexcept; // after every switch back to g0: inside, or false: the P is another M's now

} // namespace grt
