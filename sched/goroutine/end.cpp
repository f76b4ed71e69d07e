// sched/goroutine/end.cpp - the first function on a goroutine's stack, and the end of a goroutine.
//
// grt_gmain is the first frame of each stack. It runs a goroutine's function and then ends the goroutine. If the next
// goroutine has never run, the window passes to it without a switch, and grt_gmain loops. grt_end ends a goroutine
// that has been unwound (goexit.cpp); it never returns.
#include <cstring>
#include <cxxabi.h>
#include <utility>

#include "sched/core/pin.hpp"
#include "sched/core/switching.hpp"
#include "sched/protocol/look.hpp"

using namespace grt;

namespace {
// Runs the destructors of goroutine-local values, which run last.
GRT_NOINLINE void last_words(G* g) noexcept {
  g->ext->values.destroy();
  if (g->ext->fp_own) arch::fp_load(fp_default);
}

// The running goroutine has ended. Returns only if `may_stay` is set and its window has gone to the next goroutine;
// the caller is then outside the bracket and runs that goroutine.
GRT_INLINE void end_goroutine([[maybe_unused]] bool may_stay) noexcept {
  M* m = me();
  G* g = m->g;
  if (GRT_UNLIKELY(g->ext != nullptr)) {
    last_words(g);
    m = me();
  }
  GRT_DCHECK(g->kind == g_kind::goroutine && protocol::on_thread(g->seq), "the end of what does not run");
  std::uint32_t hooked = hooks.load(std::memory_order_relaxed);
  if (GRT_UNLIKELY(hooked)) {
    if (hooked & hook_canary) check_overrun(g);
    watch_mutexes(g, "its end");
  }
  m = enter_here(m); // an end needs a P, whose caches take back the slot and the window
  P* p = m->p;
  g_ext* ext = g->ext ? drop_ext(g) : nullptr;
  bool sized = ext && ext->stack_max, pinned = g->pinned;
  // Must g0 finish the end? It deletes ext outside the bracket, and closes the window once we have left it. With
  // canaries it checks the window before the next goroutine runs on it.
  bool by_g0 = GRT_ASAN || ext || (hooked & (hook_valgrind | hook_canary));
  // Pairs with the next goroutine in this slot, because code that TSan watches (chan, sync) writes into the slot. It
  // hides races between these two goroutines.
  san::release(g);
  record(m, trace::kind::exit, g->id); // before the count: a thread that sees it counted may end the recording
  count_one(p->exited);
  char* stk = g->stk;
#if GRT_ASAN
  m->dead.stk = stk;
  m->dead.san = g->san;
#endif
  if (GRT_UNLIKELY(ext != nullptr)) san::release(ext);
  if (GRT_UNLIKELY(pinned)) san::release(m); // pairs with destructors of thread_local objects, as the thread ends
  if (GRT_UNLIKELY(by_g0)) std::memset(g->closure, 0, sizeof g->closure); // leak checkers read slots, too
  g->kind = g_kind::free;
  std::atomic_thread_fence(std::memory_order_release); // [LOOK-2] a reader that sees the even count sees `free`
  g->seq += protocol::seq_one;                         // the count of a G that does not run is even
  g_put(p, g);
  G* n = pinned ? nullptr : pick(p);
  if (GRT_UNLIKELY(pinned)) m->fate = keeper_fate::ends;
  if (GRT_UNLIKELY(n && needs_g0(n))) {
    m->lend = n;
    n = nullptr;
  }
#if !GRT_SANITIZED
  if (GRT_LIKELY(may_stay && n && !n->sp && !n->stk && !by_g0)) { // the window goes to n without a switch
    n->stk = stk;
    n->seq += protocol::seq_one; // n is on a thread now; g has already counted itself out
    m->g = n;
    record(m, trace::kind::run, n->id);
    return leave(m);
  }
#endif
  if (!n) n = m->g0p;
  // This code still runs on the window. It may go to the P's cache all the same, because only this P uses the cache
  // and the switch comes before the next get. The exception is an n that has never run: the switch itself binds a
  // window to it, which must be another one. In that case, and if by_g0, g0 puts our window away and then runs n.
  if (by_g0 || (!n->sp && n != m->g0p)) {
    m->late = {stk, sized, ext};
    if (n != m->g0p) m->lend = std::exchange(n, m->g0p);
  } else {
    stack::put(p->stacks, stk);
  }
  if (n != m->g0p) record(m, trace::kind::run, n->id);
  switch_to(m, &m->dead, n, no_lock(m));
  __builtin_unreachable();
}
} // namespace

extern "C" {
void grt_gmain(std::uintptr_t release) {
  if (release & 1) grt_commit(release);
  else __atomic_store_n(reinterpret_cast<std::uint32_t*>(release), 0, __ATOMIC_RELEASE); // [SPIN-1]
#if GRT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  M* m = me();
  leave(m);
  for (;;) {
    G* g = me()->g;
    san::acquire(g);
    if (GRT_UNLIKELY(hooks.load(std::memory_order_relaxed) & hook_fp)) fp_arrive(g);
    try {
      g->run(g->closure);
    } catch (abi::__forced_unwind&) { // an uncaught exception does not see this handler, so its stack stays intact
      end_unwound();
    }
    end_goroutine(true);
  }
}

GRT_NOINLINE void grt_end() {
  end_goroutine(false);
  __builtin_unreachable();
}
}
