// sched/start.cpp - options, the first start, Ms and Ps, exit.
#include <grt/runtime.hpp>

#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <exception>
#include <new>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <system_error>
#include <typeinfo>
#include <unistd.h>

#include "base/futex.hpp"
#include "sched/hooks.hpp"
#include "sched/pin.hpp"
#include "sched/scavenge.hpp"
#include "sched/sched.hpp"
#include "sched/slab.hpp"
#include "sched/timers.hpp"

extern "C" {
extern __thread grt::M* grt_tls_m __attribute__((tls_model("initial-exec")));
}

namespace grt {

std::atomic<P*> all_p[procs_max];
std::atomic<unsigned> n_procs{0}, n_made{0};

namespace {
std::atomic<bool> started{false}, exiting{false};
spin_lock starting; // held over thread creation: only starters and set_procs take it
std::terminate_handler terminate_before;

[[noreturn]] void bad_setting(const char* name, const char* value, const char* valid) {
  std::fprintf(stderr, "grt: %s=%s is not valid: %s\n", name, value, valid);
  std::_Exit(2);
}

// An unsigned number with an optional K, M or G.
bool parse_size(const char* s, unsigned long long& out) {
  char* end;
  if (*s < '0' || *s > '9') return false;
  errno = 0;
  out = std::strtoull(s, &end, 10);
  unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
  return !errno && !end[shift != 0] && out <= ULLONG_MAX >> shift && (out <<= shift, true);
}

const char* setting(const char* name) { return getauxval(AT_SECURE) ? nullptr : std::getenv(name); }

unsigned default_procs() {
  cpu_set_t set;
  unsigned n = sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
  long long quota = -1, period = 100000;
  if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) { // cgroup v2: "max 100000" or "QUOTA PERIOD"
    if (std::fscanf(f, "%lld %lld", &quota, &period) != 2) quota = -1;
    std::fclose(f);
  } else if (FILE* q = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r")) { // v1; the default period
    if (std::fscanf(q, "%lld", &quota) != 1) quota = -1;
    std::fclose(q);
  }
  if (quota > 0 && period > 0) n = std::min(n, static_cast<unsigned>(std::max(1LL, quota / period)));
  return std::max(n, 1u);
}

text_out& say_who(text_out& t, const G* g) {
  t.str("goroutine ").dec(g->id);
  if (g->ext && g->ext->name[0]) t.str(" [").str(g->ext->name).str("]");
  return t;
}
text_out& say_birth(text_out& t, const G* g) {
  t.str("  created at ");
  if (g->line) t.str(static_cast<const char*>(g->site)).str(":").dec(g->line);
  else t.hex(reinterpret_cast<std::uintptr_t>(g->site));
  return t.str("\n");
}

// Who runs on the window that holds `at`.
void describe(int fd, const char* at, bool birth) {
  stack::bounds want{}, have{};
  stack::find(at, want);
  M* m = me();
  if (!m || !m->g || !m->g->stk || !stack::find(m->g->stk - 1, have) || have.guard != want.guard) return;
  text_out t(fd);
  if (birth) say_birth(t, m->g);
  else say_who(t, m->g).str(": ");
}

// The stack is intact: nobody catches, so the unwinder's first phase ended at the trampoline and nothing was unwound.
[[noreturn]] void on_terminate() {
  M* m = me();
  if (std::type_info* type = m && m->g != m->g0p ? abi::__cxa_current_exception_type() : nullptr) {
    {
      text_out t(2);
      say_who(t.str("grt: fatal: "), m->g);
      int status = 0;
      char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
      t.str(": uncaught ").str(name ? name : type->name());
    }
    try {
      throw;
    } catch (const std::exception& e) {
      text_out(2).str(": ").str(e.what()).str("\n");
    } catch (...) {
      text_out(2).str("\n");
    }
    write_backtrace(2);
    {
      text_out t(2);
      say_birth(t, m->g);
    }
    std::abort();
  }
  if (terminate_before) terminate_before();
  std::abort();
}

// exit() has begun: every M but the caller's stops at its next bracket.
void at_exit() {
  exiting.store(true, std::memory_order_relaxed);
  M* mine = me();
  for (unsigned i = 0, n = n_made.load(std::memory_order_relaxed); i < n; i++) {
    M* m = all_p[i].load(std::memory_order_relaxed)->m.load(std::memory_order_relaxed);
    if (m != mine) m->lost.store(lost_state::take, std::memory_order_release); // [LOST-1] for good
  }
}

} // namespace

void thread_enter(M* m) noexcept {
  grt_tls_m = m;
  m->eh = reinterpret_cast<exception_state*>(
      abi::__cxa_get_globals()); // once per thread, so its const attribute does no harm
  prctl(PR_SET_TIMERSLACK, 1);
  prctl(PR_SET_NAME, "grt");
  stack::install_altstack();
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
}

namespace {
[[noreturn]] void pause_for_good() noexcept {
  for (;;) ::pause();
}

void* thread_main(void* arg) {
  M* m = static_cast<M*>(arg);
  thread_enter(m);
  mloop(m);
  return nullptr;
}

struct sightings {
  M::sighting of[procs_max];
};

template <class T> T* map_one() {
  void* p = san::map_quietly(sizeof(T));
  if (p == MAP_FAILED) throw std::system_error(ENOMEM, std::generic_category(), "grt: no memory for a processor");
  san::root_region(p, sizeof(T));
  return new (p) T;
}
} // namespace

M* m_make(unsigned id) {
  M* m = map_one<M>();
  m->id = id;
  m->g = m->g0p = &m->g0;
  m->g0.kind = m->dead.kind = g_kind::system;
  m->g0.sp = reinterpret_cast<void*>(1); // not fresh
  return m;
}

int thread_start(void* (*main)(void*), M* m) noexcept {
  sigset_t all, old;
  sigfillset(&all); // signals go to the program's own threads
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_t t;
  int error = pthread_create(&t, nullptr, main, m);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (!error) pthread_detach(t);
  return error;
}

namespace {

// Under `starting`. Ps are never unmade.
void make_procs(unsigned n) {
  stack::set_slack(n);
  for (unsigned i = n_made.load(std::memory_order_relaxed); i < n; i++) {
    P* p = all_p[i].load(std::memory_order_relaxed);
    if (!p) {
      p = map_one<P>();
      M* m = m_make(i);
      m->seen = map_one<sightings>()->of;
      p->id = i;
      p->free_most = slab_free_most();
      p->random = i * 77777 + 88172645;
      p->m.store(m, std::memory_order_relaxed);
      m->p = p;
    } // else its thread could not be had the last time
    all_p[i].store(p, std::memory_order_relaxed);
    n_made.store(i + 1, std::memory_order_release); // [PROCS-1] all_p below is set
    if (int error = thread_start(thread_main, p->m.load(std::memory_order_relaxed))) {
      n_made.store(i, std::memory_order_relaxed);
      throw std::system_error(error, std::generic_category(), "grt: cannot start a thread");
    }
  }
}

void calibrate() { // 1 ms against the clock; refined by nobody, it only scales patience
  std::uint64_t t0 = now_ns(), c0 = arch::cycles();
  while (now_ns() - t0 < 1000000) arch::relax();
  cycles_per_us.store(std::max<std::uint64_t>(1, (arch::cycles() - c0) * 1000 / (now_ns() - t0)),
                      std::memory_order_relaxed);
}
} // namespace

namespace detail {
void start(const options& asked) {
  if (started.load(std::memory_order_acquire)) return; // [START-1]
  spin_guard hold(starting);
  if (started.load(std::memory_order_relaxed)) return;
  unsigned long long v;
  unsigned n = asked.procs;
  if (n > procs_max) throw std::invalid_argument("grt: options::procs is out of range: 0 to 1024");
  if (const char* s = setting("GRT_PROCS")) {
    if (!parse_size(s, v) || v < 1 || v > procs_max) bad_setting("GRT_PROCS", s, "a number from 1 to 1024");
    n = static_cast<unsigned>(v);
  }
  stack::config c;
  c.stack_max = asked.stack_max;
  if (const char* s = setting("GRT_STACK_MAX")) {
    if (!parse_size(s, v) || v < stack::stack_max_least || v > stack::stack_max_most)
      bad_setting("GRT_STACK_MAX", s, "a size from 64K to 8M");
    c.stack_max = v;
  }
  if (const char* s = setting("GRT_GUARD")) {
    c.guard = stack::guard_named(s);
    if (c.guard < 0) bad_setting("GRT_GUARD", s, "madvise, poison, mprotect or canary");
    if (!stack::can_guard(static_cast<stack::guard_kind>(c.guard)))
      bad_setting("GRT_GUARD", s, "this kernel or this build cannot; mprotect and canary work everywhere");
  }
  if (!membarrier_start())
    throw std::system_error(ENOSYS, std::generic_category(), "grt: this kernel has no membarrier(2)");
  stack::start(c);
  if (!slab_begin() && !slab_start())
    throw std::system_error(ENOMEM, std::generic_category(), "grt: no address space for goroutines");
  calibrate();
  stack::install_overflow_handler(describe);
  if (stack::guards() == stack::guard_kind::canary) hooks.fetch_or(hook_canary, std::memory_order_relaxed);
  if (san::on_valgrind()) hooks.fetch_or(hook_valgrind, std::memory_order_relaxed);
  if (!n) n = default_procs();
  n_procs.store(n, std::memory_order_relaxed);
  make_procs(n);
  terminate_before = std::set_terminate(on_terminate);
  std::atexit(at_exit);
  started.store(true, std::memory_order_release); // [START-1]
}
} // namespace detail

void start_runtime() { detail::start({}); }

// g0 never leaves its thread: m is still right.
void back_on_g0(M* m) noexcept {
  enter(m);
  if (char* top = m->late.top) {
    if (m->late.sized) stack::put_sized(top);
    else stack::put(m->p->stacks, top);
    m->late = {};
  }
}

// g0: look, switch, look again. Always inside, but for the moment in which the switch has cleared `in`.
GRT_NOINLINE void mloop(M* m) noexcept {
  for (;;) {
    G* g = m->lend ? std::exchange(m->lend, nullptr) : search(m);
    if (GRT_UNLIKELY(exiting.load(std::memory_order_relaxed))) pause_for_good();
    if (GRT_UNLIKELY(needs_g0(g))) {
      if (g->held && left_to_scavenger(g)) continue;
      if (g->pinned) {
        lend(m, g);
        continue;
      }
    }
    record(m, trace::kind::run, g->id);
    switch_to(m, &m->g0, g, no_lock(m));
    back_on_g0(m);
  }
}

unsigned procs() {
  start_runtime();
  return n_procs.load(std::memory_order_relaxed);
}

unsigned set_procs(unsigned n) {
  if (n < 1 || n > procs_max) throw std::invalid_argument("grt: set_procs(" + std::to_string(n) + "): 1 to 1024");
  start_runtime();
  unsigned old;
  {
    spin_guard hold(starting);
    old = n_procs.load(std::memory_order_relaxed);
    make_procs(n);
    n_procs.store(n, std::memory_order_seq_cst); // [RETIRE-1]
  }
  for (unsigned i = 0; i < n_made.load(std::memory_order_relaxed);
       i++) { // the retired ones look; sleepers whose turn it is to retire, too
    M* m = all_p[i].load(std::memory_order_relaxed)->m.load(std::memory_order_relaxed);
    std::uint32_t was = 1; // deep: retired or idle. An idle one looks and sleeps again
    m->asleep.compare_exchange_strong(was, 2, std::memory_order_seq_cst); // [RETIRE-1] also where it fails
    futex_wake(&m->asleep);
  }
  return old;
}

std::size_t goroutines() {
  std::uint64_t in = 0, out = 0;
  unsigned n = n_made.load(std::memory_order_acquire); // [PROCS-1]
  for (unsigned i = 0; i < n; i++)
    out += all_p[i].load(std::memory_order_relaxed)->exited.load(std::memory_order_acquire); // [COUNT-1]
  for (unsigned i = 0; i < n; i++)
    in += all_p[i].load(std::memory_order_relaxed)->spawned.load(std::memory_order_acquire); // [COUNT-1]
  in += detail::foreign_spawned.load(std::memory_order_acquire);                             // [COUNT-1]
  return in > out ? in - out : 0;
}

} // namespace grt
