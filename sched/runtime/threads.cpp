// sched/runtime/threads.cpp - see threads.hpp.
#include "sched/runtime/threads.hpp"

#include <csignal>
#include <cxxabi.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/san.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"
#include "sched/runtime/map.hpp"
#include "stack/overflow.hpp"

extern "C" {
extern __thread grt::M* grt_tls_m __attribute__((tls_model("initial-exec")));
}

namespace grt {

std::atomic<M*> all_m{nullptr};

namespace {
std::atomic<unsigned> n_threads{0};

// The signal mask and timer slack that the starting thread had when the runtime started. Immutable afterwards.
// Threads that run goroutines begin with both, as if the starting thread had made them by std::thread.
sigset_t program_mask;
int program_slack_ns;

} // namespace

void threads_begin() noexcept {
  pthread_sigmask(SIG_SETMASK, nullptr, &program_mask);
  program_slack_ns = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
}
unsigned threads() noexcept { return n_threads.load(std::memory_order_relaxed); }
void thread_leave() noexcept {
  grt_tls_m = nullptr; // destructors of thread_local objects may still use grt, as a foreign thread
  grt_tls_hold.barred.store(0, std::memory_order_relaxed);
  stack::remove_altstack();
  n_threads.fetch_sub(1, std::memory_order_relaxed);
}

void thread_enter(M* m) noexcept {
  grt_tls_m = m;
  m->low = false;
  m->words.store(&grt_tls_hold, std::memory_order_release); // [HOLD-2]
  m->tid = static_cast<int>(syscall(SYS_gettid));
  arch::fp_load(fp_default); // not inherited: the creating goroutine may have an environment of its own
  m->eh = reinterpret_cast<exception_state*>(
      abi::__cxa_get_globals()); // once per thread, so its const attribute does no harm
  stack::install_altstack();
  watch_thread_end();
  if (hooks.load(std::memory_order_relaxed) & hook_mutexwatch) mutexwatch_follow();
  pthread_attr_t a;
  if (pthread_getattr_np(pthread_self(), &a) == 0) {
    void* low;
    std::size_t n;
    pthread_attr_getstack(&a, &low, &n);
    m->stack_low = static_cast<char*>(low);
    m->stack_high = m->stack_low + n;
    pthread_attr_destroy(&a);
  }
#if GRT_TSAN
  m->g0.san = __tsan_get_current_fiber();
  m->maker_fiber = __tsan_create_fiber(0);
#endif
  pthread_sigmask(SIG_SETMASK, &program_mask, nullptr); // until here thread_start's: a handler sees a complete M
  prctl(PR_SET_NAME, "grt");
}

void* thread_main(void* arg) {
  M* m = static_cast<M*>(arg);
  thread_enter(m);
  mloop(m);
  return nullptr;
}

M* m_make(unsigned id) {
  static std::atomic<unsigned> others{procs_max};
  if (id == procs_max) id = others.fetch_add(1, std::memory_order_relaxed);
  M* m = map_one<M>();
  m->id = id;
  m->g = m->g0p = &m->g0;
  m->g0.kind = m->dead.kind = g_kind::system;
  m->g0.sp = reinterpret_cast<void*>(1); // not null, because g0 is not a goroutine that has never run
  m->made_before = all_m.load(std::memory_order_relaxed);
  while (!all_m.compare_exchange_weak(m->made_before, m, std::memory_order_release, std::memory_order_relaxed)) {
  } // [MS-1] a reader of the list sees m initialised
  return m;
}

// The caller may be any thread: sysmon, a thread of the program, or a thread whose goroutine has changed the signal
// mask. A new thread inherits its timer slack, and its default slack, from the thread that creates it. So the
// caller's mask and slack are replaced while the thread is created.
int thread_start(void* (*main)(void*), void* arg) noexcept {
  sigset_t most, old;
  sigfillset(&most);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) sigdelset(&most, fault);
  pthread_sigmask(SIG_SETMASK, &most, &old);
  int slack_ns = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
  bool differs = slack_ns != program_slack_ns && slack_ns > 0 && program_slack_ns > 0; // 0: a real-time thread has none
  if (differs) prctl(PR_SET_TIMERSLACK, program_slack_ns, 0, 0, 0);
  pthread_t t;
  n_threads.fetch_add(1, std::memory_order_relaxed);
  int error = pthread_create(&t, nullptr, main, arg);
  if (differs) prctl(PR_SET_TIMERSLACK, slack_ns, 0, 0, 0);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (!error) pthread_detach(t);
  else n_threads.fetch_sub(1, std::memory_order_relaxed);
  return error;
}

} // namespace grt
