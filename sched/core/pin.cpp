// sched/core/pin.cpp - pinned goroutines: goroutines that own their thread.
//
// A pinned goroutine runs on one M of its own, the locked M (in the code: keeper), which has no P. An M
// that picks the goroutine lends its P to the keeper, and sleeps until the P comes back. That M is the
// lending M (lender).
//
//   lender, on g0, inside                        keeper, on g0, inside
//   keeper->p = P, keeper->lend = g              waits for turn != 0
//   P->m = keeper                                ...
//   turn of the keeper = 1, wake [LEND-1]        turn = 0; switches to g. The bracket is the keeper's, thieves ask it.
//   waits for its own turn != 0                  g parked, yielded, unpinned or ended: back on g0, inside
//   ...                                          P->m = lender
//   turn = 0; goes on                            turn of the lender = 1, wake [LEND-1]
//
// After g has parked, another M may wake and pick it before the keeper has given the first P back. So a
// lender first claims the keeper, and sleeps until the keeper is vacant (claim_keeper in
// sched/protocol/handoff.hpp). The keeper needs only a core to become vacant. It follows that `procs`
// bounds what runs, and that a P always comes back. A turn of a pinned goroutine costs two futex wakes,
// as in Go.
//
// A thief that has read P->m too early finds an M that refuses: the lender is inside for good, and the
// keeper's p is another one. See shut_out() in sched/protocol/handoff.hpp.
//
// A keeper runs nothing but its goroutine: every switch away from the goroutine goes to the keeper's g0.
// A goroutine that ends while pinned ends its thread, as in Go, because the state of the thread may be
// anything. A goroutine that unpins gives its keeper to the next pin().
//
// Rejected: a P of its own for each pinned goroutine. More goroutines would run than procs allows.
#include <new>
#include <pthread.h>
#include <system_error>
#include <utility>

#include <grt/go.hpp>

#include "base/futex.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/pin.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/protocol/handoff.hpp"
#include "sched/runtime/faults.hpp"
#include "sched/runtime/halt.hpp"
#include "sched/runtime/threads.hpp"

namespace grt {
namespace {
spin_lock lock;
M* spare;   // keepers without a goroutine, linked by lender
M* retired; // keepers without a thread, for use with a new one; not freed, because a thief may still look at them

void* keeper_main(void* arg) {
  M* m = static_cast<M*>(arg);
  thread_enter(m);
  for (;;) {
    await_turn(m);
    if (GRT_UNLIKELY(halted.load(std::memory_order_relaxed))) grt::await_lift(m);
    G* g = std::exchange(m->lend, nullptr);
    about_to_run(m, g);
    switch_to(m, &m->g0, g, no_lock(m));
    if (!back_on_g0(m) && !rejoin(m)) { // sysmon gave the P back to the lender while the goroutine computed or blocked
      drift_ends(m);
      protocol::vacate_keeper<hardware>(m);
      continue;
    }
    deny(m);
    san::acquire(m);
    M* lender = m->lender;
    P* p = m->p;
    keeper_fate fate = std::exchange(m->fate, keeper_fate::keeps);
    protocol::set_holder<hardware>(p, lender);
    if (fate == keeper_fate::keeps) {
      protocol::vacate_keeper<hardware>(m);
      give_turn(lender);
      continue;
    }
    {
      held_guard hold(lock);
      // A plain store is enough: no lender waits, because the goroutine has left this keeper, and the lock orders
      // the store before the next use.
      m->vacant.store(protocol::vacant, std::memory_order_relaxed);
      if (fate == keeper_fate::ends) protocol::words_go<hardware>(m);
      M*& list = fate == keeper_fate::spare ? spare : retired;
      m->lender = list;
      list = m;
    }
    give_turn(lender);
    if (fate == keeper_fate::ends) return thread_leave(), nullptr; // the slot may be in use again already
  }
}
} // namespace

M* keeper_make() {
  M* m;
  bool has_thread = true;
  {
    held_guard hold(lock);
    if ((m = spare)) spare = m->lender;
    else if (has_thread = false; (m = retired)) retired = m->lender;
  }
  if (has_thread) return m;
  if (!m) m = m_make(procs_max);
  m->keeper = true;
  m->in = 1;
  m->lend = nullptr;
  if (int error = thread_start(keeper_main, m)) {
    held_guard hold(lock);
    m->lender = retired;
    retired = m;
    throw std::system_error(error, std::generic_category(), "grt: no thread for a pinned goroutine");
  }
  return m;
}

void keeper_drop(M* m) noexcept {
  held_guard hold(lock);
  m->lender = spare;
  spare = m;
}

void lend(M* m, G* g) noexcept {
  GRT_CHECK(g->ext && g->ext->keeper && g->ext->keeper->keeper, "a pinned goroutine without a thread");
  M* keeper = g->ext->keeper;
  protocol::claim_keeper<hardware>(keeper);
  keeper->lend = g;
  keeper->lender = m;
  protocol::give<hardware>(m->p, keeper);
  give_turn(keeper);
  await_turn(m);
  deny(m);
}

namespace this_goroutine {
bool pin() {
  M* m = me();
  if (!m) return false;
  G* g = m->g;
  if (!g->ext) g->ext = new g_ext;
  if (g->ext->pins++) return true;
  try {
    g->ext->keeper = keeper_make();
  } catch (...) {
    g->ext->pins--;
    throw;
  }
  watch_mutexes(g, "pin");
  m = enter_here(me());
  g->pinned = true; // not before: a pinned goroutine runs on its keeper, which does not have this one yet
  fp_leave(g);
  m->lend = g; // g0 lends the P as soon as our registers are saved
  record(m, trace::kind::yield, g->id);
  switch_to(m, g, m->g0p, no_lock(m));
  fp_arrive(g);
  return true;
}

void unpin() {
  M* m = me();
  if (!m || !m->g->pinned || --m->g->ext->pins) return;
  G* g = m->g;
  m = enter_here(m); // still pinned, so on the same thread
  g->pinned = false;
  watch_mutexes(g, "unpin");
  g->ext->keeper = nullptr;
  m->fate = keeper_fate::spare;
  fp_leave(g);
  m->p->queue.push(g);
  record(m, trace::kind::yield, g->id);
  switch_to(m, g, m->g0p, no_lock(m));
  fp_arrive(g);
}
} // namespace this_goroutine
} // namespace grt
