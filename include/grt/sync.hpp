// grt/sync.hpp - mutex, shared_mutex, condition_variable, wait_group, semaphores, latch, barrier, call_once,
// error_group, single_flight: all of them. Each has a header of its own, which costs less to include.
//
// Any goroutine and any thread may use these types. An operation "waits" by parking its goroutine, whose thread then
// runs other goroutines. A thread that grt did not create blocks in the kernel instead. The first wait of such a thread
// allocates a record for it and may start the runtime; it throws std::system_error if either fails.
//
// An operation that takes a context throws std::system_error with ctx.err() if ctx ends before the operation could
// complete. If ctx has ended before the call, the call fails even if it need not wait. A call that fails has no effect,
// except where it is said otherwise.
//
// After a wait, the woken goroutine may destroy the object at once, provided that no other goroutine still uses it: the
// waker does not access the object after the wake-up has become visible.
#pragma once
#include <grt/barrier.hpp>
#include <grt/condition_variable.hpp>
#include <grt/group.hpp>
#include <grt/latch.hpp>
#include <grt/mutex.hpp>
#include <grt/once.hpp>
#include <grt/semaphore.hpp>
#include <grt/shared_mutex.hpp>
#include <grt/wait_group.hpp>
