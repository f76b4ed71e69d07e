// debug/sample.hpp - the stack of a goroutine that runs without a P, taken from its thread.
//
// Nobody else can read the registers of a thread that computes. So the reader sends the thread SIGURG (sched/monitor/stall.cpp
// installs the handler); the handler walks the stack that it interrupted. A thread that sleeps in the kernel is not
// disturbed: /proc/self/task/TID/syscall names its stack pointer and program counter, and the walk goes as far as these
// two lead.
//
//   request  set by                    meaning                                  leaves by
//   idle     -                         no request                               reader: -> asked
//   asked    reader                    the signal is on its way                 handler: -> taken; reader, after 20 ms:
//                                                                               -> idle
//   taken    handler                   it writes the frames                     handler: -> done; reader, after 50 ms:
//                                                                               -> dropped
//   done     handler                   the frames are the reader's [SAMPLE-1]   reader: -> idle
//   dropped  reader                    nobody wants the frames any more         handler: -> idle
//
// One request at a time: a second reader, which may be a signal handler that interrupted the first, does without
// frames.
#pragma once

#include "debug/unwind.hpp"
#include "sched/core/sched.hpp"

namespace grt::debug {

/// Frames of g, which m runs, innermost first, unwinder::most at most. 0: its thread did not answer, or g has left it.
/// Async-signal-safe. Takes some 20 us; 70 ms at the most.
unsigned sample(const M* m, const G* g, void** frames, unwinder& u) noexcept;

} // namespace grt::debug
