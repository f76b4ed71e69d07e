// sched/runtime/threads.hpp - the threads of the runtime: how they are made, how they begin and how they end.
#pragma once

namespace grt {

struct M;

/// Makes an M without a thread. If `id` is procs_max, the M gets the next free number from procs_max on.
/// @throws std::system_error: no memory
M* m_make(unsigned id);
/// Starts a thread of the runtime, with the signal mask and timer slack of the thread that started the runtime once
/// it calls thread_enter(). Any thread may call this. Returns an errno value, 0 on success.
int thread_start(void* (*main)(void*), void* arg) noexcept;
/// The first call of a thread that runs goroutines: it becomes m's thread.
void thread_enter(M* m) noexcept;
/// The last call of a thread that runs goroutines.
void thread_leave() noexcept;
/// The number of threads of the runtime.
unsigned threads() noexcept;
/// Called once, when the runtime starts: threads made from now on begin with the calling thread's signal mask and
/// slack.
void threads_begin() noexcept;
/// The main function of the thread of an M that is made together with a P.
void* thread_main(void* m);

} // namespace grt
