// sched/start.cpp - options, the first start, Ms and Ps.
#include <grt/runtime.hpp>

#include <charconv>
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
#include <string_view>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <system_error>
#include <typeinfo>
#include <unistd.h>

#include "base/futex.hpp"
#include "sched/faults.hpp"
#include "sched/halt.hpp"
#include "sched/handoff.hpp"
#include "sched/hooks.hpp"
#include "sched/pin.hpp"
#include "sched/ports.hpp"
#include "sched/protocol_handoff.hpp"
#include "sched/quota.hpp"
#include "sched/scavenge.hpp"
#include "sched/sched.hpp"
#include "sched/slab.hpp"
#include "sched/stall.hpp"
#include "sched/timers.hpp"
#include "stack/overflow.hpp"

extern "C" {
extern __thread grt::M* grt_tls_m __attribute__((tls_model("initial-exec")));
}

namespace grt {

std::atomic<P*> all_p[procs_max];
std::atomic<unsigned> n_procs{0}, n_made{0}, threads_max{10000};
std::atomic<M*> all_m{nullptr};
static std::atomic<bool> procs_follow{false}; // what the system allows: nobody has said a number
std::uint64_t stall_ns, origin_ns, origin_cycles;

namespace {
std::atomic<bool> started{false};
std::atomic<unsigned> n_threads{0};
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

// An unsigned number with us, ms or s.
bool parse_time(std::string_view s, std::uint64_t& out_ns) {
  std::uint64_t n = 0, unit = 0;
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), n);
  std::string_view rest = s.substr(static_cast<std::size_t>(end - s.data()));
  for (auto [name, ns] : {std::pair{"us", 1000u}, {"ms", 1000000u}, {"s", 1000000000u}})
    if (rest == name) unit = ns;
  return error == std::errc() && unit && !__builtin_mul_overflow(n, unit, &out_ns);
}

// GRT_DEBUG=migrate,stall=100ms
void read_debug(const char* value) {
  std::string_view rest = value;
  for (bool more = !rest.empty(); more;) {
    std::size_t comma = rest.find(',');
    std::string_view word = rest.substr(0, comma);
    if ((more = comma != rest.npos)) rest.remove_prefix(comma + 1);
    if (word == "migrate") hooks.fetch_or(hook_migrate, std::memory_order_relaxed);
    else if (!word.starts_with("stall=") || !parse_time(word.substr(6), stall_ns) || !stall_ns)
      bad_setting("GRT_DEBUG", value, "migrate, stall=TIME with us, ms or s; several with commas between");
  }
}

const char* setting(const char* name) { return getauxval(AT_SECURE) ? nullptr : std::getenv(name); }

} // namespace

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

namespace {
// The stack is intact: nobody catches, so the unwinder's first phase ended at the trampoline and nothing was unwound.
[[noreturn]] void on_terminate() {
  M* m = me();
  if (m && m->g != m->g0p) {
    terminated(m);
    if (std::type_info* type = abi::__cxa_current_exception_type()) {
      int status = 0;
      char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
      report_begin(m->g, "uncaught ");
      text_out(2).str(name ? name : type->name());
      try {
        throw;
      } catch (const std::exception& e) {
        text_out(2).str(": ").str(e.what());
      } catch (...) {
      }
      report_end(m->g);
    }
  }
#ifdef __GLIBCXX__
  if (terminate_before == __gnu_cxx::__verbose_terminate_handler) claim_report(); // one of the program's may not end it
#endif
  if (terminate_before) terminate_before();
  std::abort();
}

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

// Of the thread that started the runtime, at that moment; immutable afterwards. Threads that run goroutines begin with
// both, as if that thread had made them by std::thread.
sigset_t program_mask;
int program_slack_ns;

} // namespace

unsigned threads() noexcept { return n_threads.load(std::memory_order_relaxed); }
void thread_leave() noexcept {
  grt_tls_m = nullptr; // destructors of thread_local objects may use grt yet, as any thread does
  grt_tls_hold.barred.store(0, std::memory_order_relaxed);
  stack::remove_altstack();
  n_threads.fetch_sub(1, std::memory_order_relaxed);
}

void thread_enter(M* m) noexcept {
  grt_tls_m = m;
  m->low = false;
  m->words.store(&grt_tls_hold, std::memory_order_release); // [HOLD-2]
  m->tid = static_cast<int>(syscall(SYS_gettid));
  arch::fp_load(fp_default); // not its maker's, who may be a goroutine with one of its own
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
  pthread_sigmask(SIG_SETMASK, &program_mask, nullptr); // thread_start's until here: a handler finds all of it made
  prctl(PR_SET_NAME, "grt");
}

namespace {

void* thread_main(void* arg) {
  M* m = static_cast<M*>(arg);
  thread_enter(m);
  mloop(m);
  return nullptr;
}

struct sightings {
  P::sighting of[procs_max];
};

template <class T> T* map_one() {
  void* p = san::map_quietly(sizeof(T));
  if (p == MAP_FAILED) throw std::system_error(ENOMEM, std::generic_category(), "grt: no memory for a processor");
  san::root_region(p, sizeof(T));
  return new (p) T;
}
} // namespace

M* m_make(unsigned id) {
  static std::atomic<unsigned> others{procs_max};
  if (id == procs_max) id = others.fetch_add(1, std::memory_order_relaxed);
  M* m = map_one<M>();
  m->id = id;
  m->g = m->g0p = &m->g0;
  m->g0.kind = m->dead.kind = g_kind::system;
  m->g0.sp = reinterpret_cast<void*>(1); // not fresh
  m->made_before = all_m.load(std::memory_order_relaxed);
  while (!all_m.compare_exchange_weak(m->made_before, m, std::memory_order_release, std::memory_order_relaxed)) {
  } // [MS-1] a reader of the list finds it made
  return m;
}

// The caller is any thread: sysmon, one of the program's, or one whose goroutine has changed its mask. A new thread's
// timer slack, and what it falls back to, is its maker's at this moment.
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

namespace {

// Under `starting`. Ps are never unmade.
void make_procs(unsigned n) {
  stack::set_slack(n);
  for (unsigned i = n_made.load(std::memory_order_relaxed); i < n; i++) {
    P* p = all_p[i].load(std::memory_order_relaxed);
    if (!p) {
      p = map_one<P>();
      M* m = m_make(i);
      p->id = i;
      p->seen = map_one<sightings>()->of;
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
  unsigned long long v;
  unsigned n = asked.procs;
  if (n > procs_max) throw std::invalid_argument("grt: options::procs is out of range: 0 to 1024");
  if (const char* s = setting("GRT_PROCS")) {
    if (!parse_size(s, v) || v < 1 || v > procs_max) bad_setting("GRT_PROCS", s, "a number from 1 to 1024");
    n = static_cast<unsigned>(v);
  }
  stack::config c;
  c.stack_max = asked.stack_max;
  if (const char* s = setting("GRT_MAX_THREADS")) {
    if (!parse_size(s, v) || v < 2 || v > 1u << 22) bad_setting("GRT_MAX_THREADS", s, "a number from 2 to 4M");
    threads_max.store(static_cast<unsigned>(v), std::memory_order_relaxed);
  }
  if (const char* s = setting("GRT_DEBUG")) read_debug(s);
  if (const char* s = setting("GRT_STACK_MAX")) {
    if (!parse_size(s, v) || v < stack::stack_max_least || v > stack::stack_max_most)
      bad_setting("GRT_STACK_MAX", s, "a size from 64K to 8M");
    c.stack_max = v;
  }
  hogs_are_lowered = asked.hogs == hog_policy::nice;
  if (const char* s = setting("GRT_HOGS")) {
    std::string_view policy = s;
    if (policy != "nice" && policy != "equal") bad_setting("GRT_HOGS", s, "nice or equal");
    hogs_are_lowered = policy == "nice";
  }
  if (const char* s = setting("GRT_GUARD")) {
    c.guard = stack::guard_named(s);
    if (c.guard < 0) bad_setting("GRT_GUARD", s, "madvise, poison, mprotect or canary");
    if (!stack::can_guard(static_cast<stack::guard_kind>(c.guard)))
      bad_setting("GRT_GUARD", s, "this kernel or this build cannot; mprotect and canary work everywhere");
  }
  if (!membarrier_start())
    throw std::system_error(ENOSYS, std::generic_category(), "grt: this kernel has no membarrier(2)");
  if (long page = sysconf(_SC_PAGESIZE); page != 4096) // arm64 kernels may be built for 16 and 64 KB
    throw std::system_error(ENOTSUP, std::generic_category(),
                            "grt: this kernel's pages are " + std::to_string(page) + " bytes; grt needs 4096");
  stack::start(c);
  if (!slab_begin() && !slab_start())
    throw std::system_error(ENOMEM, std::generic_category(), "grt: no address space for goroutines");
  fp_default = arch::fp_save();
  pthread_sigmask(SIG_SETMASK, nullptr, &program_mask);
  program_slack_ns = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
  calibrate();
  faults_start();
  if (stack::guards() == stack::guard_kind::canary) canaries_begin();
  if (san::on_valgrind()) hooks.fetch_or(hook_valgrind, std::memory_order_relaxed);
  if (!n) {
    n = std::min(cpus_allowed(), procs_max);
    procs_follow.store(true, std::memory_order_relaxed);
  }
  stall_start();
  mutexwatch_start();
  n_procs.store(n, std::memory_order_relaxed);
  make_procs(n);
  if (int error = sysmon_start()) throw std::system_error(error, std::generic_category(), "grt: cannot start a thread");
  terminate_before = std::set_terminate(on_terminate);
  std::atexit(halt_at_exit);
  pthread_atfork(nullptr, nullptr, in_child);
  watch_sigquit();
  started.store(true, std::memory_order_release); // [START-1]
}
} // namespace detail

void start_runtime() { detail::start({}); }

// g0 never leaves its thread: m is still right.
bool back_on_g0(M* m) noexcept {
  if (g_ext* ext = std::exchange(m->late.ext, nullptr)) {
    san::acquire(ext);
    delete ext;
  }
  bool mine = enter(m);
  if (char* top = std::exchange(m->late.top, nullptr)) {
    if (bool valgrind = hooks.load(std::memory_order_relaxed) & hook_valgrind; GRT_UNLIKELY(GRT_ASAN || valgrind)) {
      stack::bounds b{};
      stack::find(top - 1, b);
      san::close_window(b.low, b.high, valgrind);
    }
    if (m->late.sized || !mine) stack::put_sized(top);
    else stack::put(m->p->stacks, top);
  }
  return mine;
}

// g0: look, switch, look again. Always inside, but for the moment in which the switch has cleared `in`.
GRT_NOINLINE void mloop(M* m) noexcept {
  for (;;) {
    G* g = m->lend ? std::exchange(m->lend, nullptr) : search(m);
    if (GRT_UNLIKELY(halted.load(std::memory_order_relaxed))) await_lift(m);
    if (GRT_UNLIKELY(needs_g0(g))) {
      if (g->held && left_to_scavenger(g)) continue;
      if (g->pinned) {
        lend(m, g);
        continue;
      }
    }
    g->last = static_cast<std::uint8_t>(m->id);
    about_to_run(m, g);
    switch_to(m, &m->g0, g, no_lock(m));
    if (GRT_UNLIKELY(!back_on_g0(m)) && !rejoin(m) && !rest(m)) return thread_leave();
  }
}

unsigned procs() {
  start_runtime();
  return n_procs.load(std::memory_order_relaxed);
}

static unsigned change_procs(unsigned n);

unsigned set_procs(unsigned n) {
  if (n < 1 || n > procs_max) throw std::invalid_argument("grt: set_procs(" + std::to_string(n) + "): 1 to 1024");
  start_runtime();
  procs_follow.store(false, std::memory_order_relaxed);
  return change_procs(n);
}

void follow_cpus() noexcept {
  if (!started.load(std::memory_order_acquire) || !procs_follow.load(std::memory_order_relaxed)) return; // [START-1]
  unsigned n = std::min(cpus_allowed(), procs_max);
  if (n == n_procs.load(std::memory_order_relaxed)) return;
  try {
    change_procs(n);
  } catch (const std::system_error&) { // no thread: next time
  }
}

static unsigned change_procs(unsigned n) {
  unsigned old;
  {
    held_guard hold(starting);
    old = n_procs.load(std::memory_order_relaxed);
    make_procs(n);
    protocol::set_limit<hardware>(n_procs, n);
  }
  for (unsigned i = 0; i < n_made.load(std::memory_order_relaxed); i++)
    protocol::wake_retired<hardware>(all_p[i].load(std::memory_order_relaxed));
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
