// sched/core/ports.hpp - what the scheduler wants from the folders above it: declared here, defined there, so that the
// linker finds it and no include points upwards.
#pragma once

namespace grt {

struct G;
class text_out;
/// debug/quit.cpp. Once, at the end of the first start.
void watch_sigquit() noexcept;
/// debug/dump.cpp. Every goroutine and thread that waits, for what, and its stack. Allocates nothing, takes no lock.
void report_waiting(int fd) noexcept;
/// debug/sample.cpp. In the handler of SIGURG: true if the signal came for a sample of this thread's stack.
bool take_sample(const void* context) noexcept;
/// debug/in_exit.cpp. Does the caller run within exit(3), in the destructor of a static object or a handler? Any
/// thread. Allocates nothing. Stack: 10 KB.
bool stack_is_in_exit() noexcept;
/// debug/blame.cpp. "goroutine 7 [name]", or its line "  created at ...", of any goroutine. Allocates nothing, takes no
/// lock.
void say_other(text_out& t, const G* g, bool birth) noexcept;
/// debug/mutexwatch.cpp. At the first start, before the first thread: sets hook_mutexwatch if the library is there.
void mutexwatch_start() noexcept;
/// Under hook_mutexwatch, every thread of the runtime as it starts.
void mutexwatch_follow() noexcept;
/// Under hook_mutexwatch: g, which calls this, gives its thread away; `why` in a word or two. Where it does: `at` is a
/// return address, the first to be shown. Blocks nothing, allocates nothing, and may be called under a park lock and
/// inside the bracket. Keeps errno. Stack: 5 KB.
void mutexwatch_report(const G* g, const char* why, const void* at) noexcept;

} // namespace grt
