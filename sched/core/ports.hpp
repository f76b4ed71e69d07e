// sched/core/ports.hpp - functions that the scheduler needs from the folders above it. They are declared here and
// defined there, so no include points upwards.
#pragma once

namespace grt {

struct G;
class text_out;
/// debug/quit.cpp. Called once, at the end of the first start.
void watch_sigquit() noexcept;
/// debug/dump.cpp. Writes every goroutine and thread that waits, what it waits for, and its stack. Allocates nothing,
/// takes no lock.
void report_waiting(int fd) noexcept;
/// debug/sample.cpp. In the handler of SIGURG: true if the signal came for a sample of this thread's stack.
bool take_sample(const void* context) noexcept;
/// debug/in_exit.cpp. Does the caller run within exit(3), in the destructor of a static object or a handler? Any
/// thread. Allocates nothing. Stack: 10 KB.
bool stack_is_in_exit() noexcept;
/// debug/blame.cpp. Writes "goroutine 7 [name]" for any goroutine, or with `birth` its line "  created at ...".
/// Allocates nothing, takes no lock.
void say_other(text_out& t, const G* g, bool birth) noexcept;
/// debug/mutexwatch.cpp. At the first start, before the first thread: sets hook_mutexwatch if the library is there.
void mutexwatch_start() noexcept;
/// Under hook_mutexwatch, every thread of the runtime calls this as it starts.
void mutexwatch_follow() noexcept;
/// Under hook_mutexwatch: g, the caller, gives its thread away. `why` says why in a word or two. `at` says where: it is
/// the first return address to be shown. Does not allocate, keeps errno, and may be called under a park lock
/// and inside the bracket. There it does not block: if another report is being written, this one is dropped. Stack: 5 KB.
void mutexwatch_report(const G* g, const char* why, const void* at) noexcept;

} // namespace grt
