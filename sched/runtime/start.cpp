// sched/runtime/start.cpp - the runtime starts at its first use, in the order below; and what a forked child may do.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <pthread.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include <grt/runtime.hpp>

#include "base/futex.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/ports.hpp"
#include "sched/core/sched.hpp"
#include "sched/goroutine/slab.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/monitor/quota.hpp"
#include "sched/monitor/scavenge.hpp"
#include "sched/monitor/stall.hpp"
#include "sched/runtime/faults.hpp"
#include "sched/runtime/halt.hpp"
#include "sched/runtime/procs.hpp"
#include "sched/runtime/settings.hpp"
#include "sched/runtime/terminate.hpp"
#include "sched/runtime/threads.hpp"

extern "C" {
extern __thread grt::M* grt_tls_m __attribute__((tls_model("initial-exec")));
}

namespace grt {

std::atomic<unsigned> threads_max{10000};
std::uint64_t stall_ns, origin_ns, origin_cycles;

namespace {
std::atomic<bool> started{false};
spin_lock starting; // held over thread creation: only starters take it

// A forked child has one thread, and copies of queues, locks and goroutines that the parent's other threads would have
// had to serve. It may exec or _exit. All else that would start, park or wake aborts with a line that says so, and no
// hot path asks: the child's thread is none of the runtime's any more, the runtime is not started, and what wakes sees
// the hook of the event record. The signal mask and the timer slack are those of the thread, as of any thread.
void in_child() {
  forked.store(true, std::memory_order_relaxed);
  started.store(false, std::memory_order_relaxed);
  hooks.fetch_or(hook_trace, std::memory_order_relaxed);
  grt_tls_m = nullptr;
  grt_tls_hold.barred.store(0, std::memory_order_relaxed);
}

void calibrate() { // 1 ms against the clock; refined by nobody, it only scales patience
  std::uint64_t t0 = now_ns(), c0 = arch::cycles();
  origin_ns = t0;
  origin_cycles = c0;
  while (now_ns() - t0 < 1000000) arch::relax();
  cycles_per_us.store(std::max<std::uint64_t>(1, (arch::cycles() - c0) * 1000 / (now_ns() - t0)),
                      std::memory_order_relaxed);
}
} // namespace

namespace detail {
void start(const options& asked) {
  if (started.load(std::memory_order_acquire)) return; // [START-1]
  if (forked.load(std::memory_order_relaxed)) die_forked();
  spin_guard hold(starting);
  if (started.load(std::memory_order_relaxed)) return;
  settings with = read_settings(asked);
  threads_max.store(with.threads_max, std::memory_order_relaxed);
  hogs_are_lowered = with.hogs_are_lowered;
  hooks.fetch_or(with.debug_hooks, std::memory_order_relaxed);
  if (!membarrier_start())
    throw std::system_error(ENOSYS, std::generic_category(), "grt: this kernel has no membarrier(2)");
  if (long page = sysconf(_SC_PAGESIZE); page != 4096) // arm64 kernels may be built for 16 and 64 KB
    throw std::system_error(ENOTSUP, std::generic_category(),
                            "grt: this kernel's pages are " + std::to_string(page) + " bytes; grt needs 4096");
  stack::start(with.stacks);
  if (!slab_begin() && !slab_start())
    throw std::system_error(ENOMEM, std::generic_category(), "grt: no address space for goroutines");
  fp_default = arch::fp_save();
  threads_begin();
  calibrate();
  faults_start();
  if (stack::guards() == stack::guard_kind::canary) canaries_begin();
  if (san::on_valgrind()) hooks.fetch_or(hook_valgrind, std::memory_order_relaxed);
  stall_ns = with.stall_ns;
  stall_start();
  mutexwatch_start();
  procs_begin(with.procs ? with.procs : std::min(cpus_allowed(), procs_max), !with.procs);
  if (int error = sysmon_start()) throw std::system_error(error, std::generic_category(), "grt: cannot start a thread");
  terminate_begin();
  std::atexit(halt_at_exit);
  pthread_atfork(nullptr, nullptr, in_child);
  watch_sigquit();
  started.store(true, std::memory_order_release); // [START-1]
}
} // namespace detail

void start_runtime() { detail::start({}); }

} // namespace grt
