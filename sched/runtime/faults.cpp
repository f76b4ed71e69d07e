// sched/runtime/faults.cpp - stack overflows and accesses to guards: which goroutine is it, and what is reported.
//
// stack/overflow.cpp has the rule that tells a stack overflow from a bad pointer. This file finds the goroutines:
//
//   overflow       report "grt: fatal: goroutine 7 [name]: stack overflow: ...", then abort
//   bad pointer    report "grt: fatal: goroutine 7 [name]: invalid access at 0x..., which lies in the guard below the
//                  stack of goroutine 9"; then the signal takes its course, as for any other invalid access
//   anything else  no report; but a report that another thread is writing is finished first
//
// Canaries. Without guards, an overflow is not stopped. It writes to the 64 KB below the window, which nobody uses,
// then to the frames of the goroutine below, and so on, down to the 8 MB of inaccessible memory below the arena. The
// goroutines below then do anything: they fault, hang, or call what they find. So canaries are checked
//
//   when a goroutine parks or ends                    its own canary
//   before a goroutine runs again                     the canary of the window above, too, because an overflow there
//                                                     may have destroyed the goroutine's frames
//   at each look of sysmon                            the canaries of all goroutines that run on a P
//   in the handler of a fault, before any report      all canaries, because an overflow is the likeliest cause
//
// A frame may be larger than a canary and skip it. So where time permits, anything that was written below the window
// counts as an overflow, too. A report needs nothing that is on a goroutine's stack: Gs are in the slab, and the
// handler has a stack of its own.
#include "sched/runtime/faults.hpp"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/ports.hpp"
#include "sched/core/sched.hpp"
#include "sched/goroutine/slab.hpp"
#include "stack/overflow.hpp"

namespace grt {
namespace {
bool looks_at_canaries() noexcept { return hooks.load(std::memory_order_relaxed) & hook_canary; }

// Returns the goroutine that owns this window, running or not. null: there is none, or it ends at this moment.
const G* owner_of(const stack::bounds& window) noexcept {
  const G* end = slab_begin() ? slab_end() : nullptr;
  for (const G* g = slab_begin(); g < end; g++) {
    const char* stk = __atomic_load_n(&g->stk, __ATOMIC_RELAXED);
    g_kind kind;
    __atomic_load(&g->kind, &kind, __ATOMIC_RELAXED);
    if (stk > window.guard && stk <= window.high && kind == g_kind::goroutine) return g;
  }
  return nullptr;
}

void say_owner(text_out& t, const G* g) noexcept {
  if (g) say_other(t, g, false);
  else t.str("a goroutine that has ended");
}

[[noreturn]] void die() noexcept {
  std::signal(SIGABRT, SIG_DFL); // a handler would run on a stack that has no room left
  write_backtrace(2);
  std::abort();
}

text_out& say_way_out(text_out& t, const stack::bounds& b) noexcept {
  return t.str("  raise it with grt::attr::stack_max or GRT_STACK_MAX=")
      .dec(std::min(b.stack_max * 2, stack::stack_max_most) >> 10)
      .str("K\n");
}

[[noreturn]] void overflow(const G* g, const stack::bounds& b, bool unguarded, std::uintptr_t at) noexcept {
  claim_report(false);
  {
    text_out t(2);
    say_owner(t.str("grt: fatal: "), g);
    t.str(": stack overflow").str(unguarded ? " found by its canary" : "").str(": more than ").dec(b.stack_max);
    t.str(" bytes used (fault at ").hex(at).str(")\n");
    if (g) say_other(t, g, true);
    say_way_out(t, b);
  }
  die();
}

void say_overrun(text_out& t, const char* top, const G*& g, stack::bounds& b) noexcept {
  stack::find(top - 1, b);
  g = owner_of(b);
  say_owner(t, g);
  t.str(": stack overflow found by its canary: more than ").dec(b.stack_max).str(" bytes used\n");
}

void invalid_access(const G* self, const stack::bounds& hit, const stack::fault& f) noexcept {
  static std::atomic<bool> told{false};
  if (f.handled && told.exchange(true, std::memory_order_relaxed)) return; // the program may probe memory like this
  claim_report();
  {
    text_out t(2);
    t.str(f.handled ? "grt: warning: " : "grt: fatal: ");
    if (self) say_who(t, self);
    else t.str("thread ").dec(static_cast<std::uint64_t>(syscall(SYS_gettid)));
    t.str(": invalid access at ").hex(f.at).str(", which lies in the guard below ");
    if (const G* owner = owner_of(hit)) say_other(t.str("the stack of "), owner, false);
    else t.str("a stack that no goroutine uses");
    t.str("\n");
  }
  write_backtrace(2);
  if (self) {
    text_out t(2);
    say_birth(t, self);
  }
  if (f.handled) drop_report();
}

void judge(const stack::fault& f) noexcept {
  if (!f.handled && reporting()) std::abort(); // the report itself met a frame that cannot be read
  M* m = me();
  const G* self = m && m->g != m->g0p && m->g->kind == g_kind::goroutine ? m->g : nullptr;
  stack::bounds own{}, hit{};
  if (self && self->stk && stack::find(self->stk - 1, own)) {
    bool unguarded = stack::unguarded(self->stk);
    if (stack::is_overflow(own, unguarded, f.at, f.sp)) overflow(self, own, unguarded, f.at);
  }
  bool in_guard = stack::find_guard(reinterpret_cast<const void*>(f.at), hit);
  if (in_guard && stack::is_overflow_of(hit, f.at, f.sp)) overflow(owner_of(hit), hit, false, f.at);
  if (looks_at_canaries())
    if (const char* top = stack::find_overrun()) report_overrun(top);
  if (in_guard) invalid_access(self, hit, f);
  else if (!f.handled) await_report();
}

// Called before another report, by the thread that has claimed the report.
void note_overrun() noexcept {
  if (!looks_at_canaries()) return;
  const char* top = stack::find_overrun();
  if (!top) return;
  text_out t(2);
  const G* g;
  stack::bounds b{};
  say_overrun(t.str("grt: what follows may come from this: "), top, g, b);
}
} // namespace

void faults_start() noexcept {
  stack::install_fault_handler(judge);
  report_cause.store(note_overrun, std::memory_order_relaxed);
}

void canaries_begin() noexcept {
  stack::install_for_canaries();
  hooks.fetch_or(hook_canary, std::memory_order_relaxed);
}

void report_overrun(const char* top) noexcept {
  claim_report(false); // this overflow is the cause of whatever else is reported
  {
    text_out t(2);
    const G* g;
    stack::bounds b{};
    say_overrun(t.str("grt: fatal: "), top, g, b);
    if (g) say_other(t, g, true);
    say_way_out(t, b);
  }
  die();
}

void check_canary(const G* g) noexcept {
  if (g->stk && !stack::canary_intact(g->stk)) report_overrun(g->stk);
}

void check_overrun(const G* g) noexcept {
  if (g->stk && stack::ran_over(g->stk)) report_overrun(g->stk);
}

void check_frames(const G* g) noexcept {
  if (!g->sp || !g->stk) return;
  if (const char* top = stack::overrun_above(g->stk)) report_overrun(top);
}

void check_running() noexcept {
  if (!looks_at_canaries()) return;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) { // [PROCS-1]
    const M* m = all_p[i].load(std::memory_order_relaxed)->m.load(std::memory_order_relaxed);
    const G* g = __atomic_load_n(&m->g, __ATOMIC_RELAXED);
    const char* stk = g ? __atomic_load_n(&g->stk, __ATOMIC_RELAXED) : nullptr;
    if (stk && stack::ran_over(stk)) report_overrun(stk);
  }
}

void about_to_run_slow(M* m, const G* g) noexcept {
  if (looks_at_canaries()) check_frames(g);
  record(m, trace::kind::run, g->id);
}

} // namespace grt
