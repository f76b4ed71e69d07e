// sched/runtime/thread_end.hpp - what a thread that grt did not make gives back when it ends.
//
// glibc ends a thread in two steps. First it runs the destructors of thread_local objects, newest first; those that
// they register run as well. Then it runs the destructors of pthread keys, in up to four rounds: a key that was set
// again during a round is called in the next one.
//
// Any of these destructors may use grt. So what a thread has of grt goes back by a pthread key: after all thread_local
// objects, and again if a later destructor has made something new. Values of grt::local are destroyed earlier, by a
// thread_local object, so that they may use older thread_local objects; the key takes those that were made afterwards.
// What stays behind: a record or a value that the destructor of a key makes in the fourth round, after ours was called.
// POSIX promises no further call for that round.
// Rejected: a thread_local object alone. Once its destructor has run nothing comes back for what is made later.
#pragma once

namespace grt {

/// The calling thread will call locals_end() and foreign_end() as its last steps. May be called again and again, also
/// by destructors. false: no memory, or the process has no pthread key left.
[[nodiscard]] bool await_thread_end() noexcept;
void locals_end() noexcept;  // locals.cpp
void foreign_end() noexcept; // foreign.cpp

} // namespace grt
