// sched/runtime/thread_end.hpp - what a thread that grt did not make gives back when it ends.
//
// glibc ends a thread in two steps:
//   1  It runs the destructors of thread_local objects, newest first, and those that such destructors register.
//   2  It runs the destructors of pthread keys, in up to four rounds. A key that was set again during a round is
//      called again in the next round.
//
// Any of these destructors may use grt. So a thread gives back what it has of grt by a pthread key: after all
// thread_local objects, and again if a later destructor has made something new. Values of grt::local are destroyed
// earlier, by a thread_local object, so that they may use older thread_local objects. The key destroys the values
// that were made afterwards.
//
// One thing leaks: a record or a value that the destructor of a key makes in the fourth round after our destructor
// was called. POSIX promises no further call after that round.
//
// Rejected: a thread_local object alone. After its destructor has run, nothing frees what is made later.
#pragma once

namespace grt {

/// Makes the calling thread call locals_end() and foreign_end() when it ends. May be called any number of times, also
/// by destructors. Returns false if there is no memory, or if the process has no pthread key left.
[[nodiscard]] bool await_thread_end() noexcept;
void locals_end() noexcept;  // locals.cpp
void foreign_end() noexcept; // foreign.cpp

} // namespace grt
