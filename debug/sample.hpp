// debug/sample.hpp - the stack of a goroutine that runs without a P, taken from its thread.
//
// No other thread can read the registers of a thread that computes. So the reader sends that thread SIGURG, whose
// handler sched/monitor/stall.cpp installs. The handler walks the stack that it interrupted. A thread that sleeps in
// the kernel is not disturbed: /proc/self/task/TID/syscall has its stack pointer and program counter, and the walk goes
// as far as these two lead.
//
//   request  meaning                                          next
//   idle     there is no request                              asked: the reader
//   asked    the signal is on its way                         taken: the handler;  idle: the reader, after 20 ms
//   taken    the handler writes the frames                    done: the handler;  dropped: the reader, after 50 ms
//   done     the frames belong to the reader                  idle: the reader  [SAMPLE-1]
//   dropped  the reader does not want the frames any more     idle: the handler
//
// There is one request at a time. A second reader, which may be a signal handler that interrupted the first, gets no
// frames.
#pragma once

#include "debug/unwind.hpp"
#include "sched/core/sched.hpp"

namespace grt::debug {

/// Writes the frames of g, which m runs, innermost first, unwinder::most at most, and returns how many. It returns 0 if
/// the thread did not answer, or if g has left it. Takes some 20 us, and 70 ms at the most. Async-signal-safe.
unsigned sample(const M* m, const G* g, void** frames, unwinder& u) noexcept;

} // namespace grt::debug
