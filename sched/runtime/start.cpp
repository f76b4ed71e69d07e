// sched/runtime/start.cpp - the runtime starts at its first use, in the order of start(). What a forked child may do.
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
spin_lock starting; // held while threads are created; only start() takes it

// Runs in a forked child. The child has one thread, and copies of queues, locks and goroutines that only the parent's
// other threads could serve. So it may call exec or _exit. Everything else that would start, park or wake a goroutine
// aborts with a line that says so. No hot path checks for that:
//   start  fails, because the runtime counts as not started
//   park   fails, because the child's thread no longer belongs to the runtime
//   wake   fails, because it sees the hook of the event record, which checks `forked`
// The child's thread keeps its signal mask and its timer slack, like any thread.
void in_child() {
  forked.store(true, std::memory_order_relaxed);
  started.store(false, std::memory_order_relaxed);
  hooks.fetch_or(hook_trace, std::memory_order_relaxed);
  grt_tls_m = nullptr;
  grt_tls_hold.barred.store(0, std::memory_order_relaxed);
}

void calibrate() { // 1 ms is exact enough, because the result only scales how long to wait
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
