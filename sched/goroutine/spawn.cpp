// sched/goroutine/spawn.cpp - spawning a goroutine in three steps.
//
//   spawn_begin   takes a slot, inside a bracket
//   grt::go       builds the closure in the slot, outside, because this is user code
//   spawn_commit  pushes the goroutine, inside another bracket
#include <grt/go.hpp>
#include <grt/runtime.hpp>

#include <cstring>
#include <sched.h>

#include "sched/core/fair.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/pin.hpp"
#include "sched/core/sched.hpp"
#include "sched/goroutine/slab.hpp"

namespace grt {
namespace detail {

std::atomic<unsigned long long> foreign_spawned{0};
static_assert(closure_bytes == sizeof(G::closure));

static G* g_of_closure(void* c) noexcept { return reinterpret_cast<G*>(static_cast<char*>(c) - closure_offset); }

static GRT_NOINLINE void id_refill(P* p, bool in_crowd = false) noexcept {
  static std::atomic<std::uint64_t> next{1};
  std::uint64_t n = in_crowd ? ids_in_crowd : p->id_batch;
  p->id_next = next.fetch_add(n, std::memory_order_relaxed);
  p->id_end = p->id_next + n;
  if (p->id_batch < ids_most) p->id_batch *= 2; // batches start small, so that small programs see small numbers
}

// Gets new ids for the P. Inside the bracket; also on return, perhaps on another M. A goroutine may yield here,
// because nothing has been allocated and no lock is held. That is why this is the first step of spawn_begin. [F5 of
// fair.cpp]
static GRT_NOINLINE M* next_ids(M* m, bool may_yield) noexcept {
  if (may_yield && m->g->kind == g_kind::goroutine && GRT_UNLIKELY(crowded(m->p))) {
    leave(m);
    yield_here(m);
    m = enter_here(me());
  }
  if (m->p->id_next == m->p->id_end) id_refill(m->p, m->p->crowd_until);
  return m;
}

// A thread that starts goroutines will wait for them, perhaps in a destructor (~task, ~error_group), which must not
// throw. So self() makes the record that the wait needs now.
static GRT_NOINLINE G* foreign_alloc() {
  self();
  static spin_lock lock;
  static P ids; // only its id fields are used
  G* g = g_alloc_anywhere();
  if (!g) return nullptr;
  spin_guard hold(lock);
  if (ids.id_next == ids.id_end) id_refill(&ids);
  g->id = ids.id_next++;
  return g;
}

static void put_sized(char* top) noexcept {
  holding h;
  stack::put_sized(top);
}

static GRT_NOINLINE void set_attr(G* g, const attr& a) {
  std::unique_ptr<g_ext> ext(new (std::nothrow) g_ext);
  if (!ext) throw std::system_error(ENOMEM, std::generic_category(), "grt::go");
  a.name.copy(ext->name, sizeof ext->name - 1);
  if (a.stack_max) {
    holding h;
    std::size_t n = stack::round_stack_max(a.stack_max);
    if (n != stack::round_stack_max(0)) {
      if (!(g->stk = stack::get_sized(n)))
        throw std::system_error(ENOMEM, std::generic_category(), "grt::go: no memory for a stack");
      ext->stack_max = n;
    }
  }
  if (a.pinned) {
    try {
      ext->keeper = keeper_make();
    } catch (...) {
      if (ext->stack_max) put_sized(g->stk);
      throw;
    }
    ext->pins = 1;
    g->pinned = true;
  }
  if (a.fp_env) {
    ext->fp_own = true;
    ext->fp = arch::fp_save();
    hooks.fetch_or(hook_fp, std::memory_order_relaxed); // an M that runs it got it through a queue, so it sees this
  }
  g->ext = ext.release();
}

static void prepare(G* g, void (*run)(void*), const void* site, unsigned line) noexcept {
  san::acquire(g);
  g->sp = nullptr;
  g->stk = nullptr;
  g->kind = g_kind::prepared;
  g->reason = wait_reason::none;
  g->pinned = false;
  g->run = run;
  g->site = site;
  g->line = line;
  g->ext = nullptr;
}

static GRT_INLINE void* begin(void (*run)(void*), const void* site, unsigned line, const attr* a, bool may_yield) {
  G* g;
  if (M* m = me(); GRT_LIKELY(m != nullptr)) {
    m = enter_here(m);
    if (GRT_UNLIKELY(m->p->id_next == m->p->id_end)) m = next_ids(m, may_yield);
    P* p = m->p;
    g = g_alloc(p);
    if (GRT_LIKELY(g != nullptr)) g->id = p->id_next++;
    leave(m);
  } else {
    g = foreign_alloc();
  }
  if (GRT_UNLIKELY(!g)) throw std::system_error(ENOMEM, std::generic_category(), "grt::go: no memory for a goroutine");
  prepare(g, run, site, line);
  if (GRT_UNLIKELY(a != nullptr)) {
    try {
      set_attr(g, *a);
    } catch (...) {
      spawn_abort(g->closure);
      throw;
    }
  }
  return g->closure;
}

void* spawn_begin(void (*run)(void*), const void* site, unsigned line, const attr* a) {
  return begin(run, site, line, a, true);
}
void* spawn_begin_here(void (*run)(void*), const void* site, unsigned line, const attr* a) {
  return begin(run, site, line, a, false);
}

void spawn_commit(void* closure) noexcept {
  G* g = g_of_closure(closure);
  hardware::store(g->kind, g_kind::goroutine, std::memory_order_release); // [LOOK-1] after all that debug/ reads of g
  san::release(g);
  M* m = me();
  if (GRT_UNLIKELY(!m)) {
    record(m, trace::kind::spawn, g->id, 0, g->line);
    foreign_spawned.fetch_add(1, std::memory_order_release); // [COUNT-1]
    g->birth = 0;
    return inject(g);
  }
  m = enter_here(m);
  record(m, trace::kind::spawn, g->id, m->g->id, g->line); // inside: it may take a lock, which could change the P
  P* p = m->p;
  g->birth = static_cast<std::uint32_t>(p->tick);
  count_one(p->spawned);
  if (GRT_UNLIKELY(migrating())) inject_inside(g);
  else p->queue.push_fresh(g);
  notify();
  leave(m);
}

// The next three functions run on g0, inside, under a wheel's lock. So they do not wait for a sort of the free slots:
// spawn_begin_inside returns null, and the timer tries again a millisecond later.
G* spawn_fire(void* closure) noexcept {
  G* g = g_of_closure(closure);
  M* m = me();
  P* p = m->p;
  hardware::store(g->kind, g_kind::goroutine, std::memory_order_release); // [LOOK-1] as above
  g->birth = static_cast<std::uint32_t>(p->tick);
  count_one(p->spawned);
  record(m, trace::kind::spawn, g->id, 0, g->line);
  return g;
}

void* spawn_begin_inside(void (*run)(void*), const void* site, unsigned line, void* p) noexcept {
  P* on = me()->p;
  G* g = g_alloc_now(on);
  if (!g) return nullptr;
  if (on->id_next == on->id_end) id_refill(on);
  g->id = on->id_next++;
  prepare(g, run, site, line);
  spawn_store(g->closure, p);
  san::release(g);
  return g->closure;
}

void spawn_abort_inside(void* closure) noexcept { g_free(me()->p, g_of_closure(closure)); }

void spawn_store(void* closure, void* p) noexcept { *static_cast<void**>(closure) = p; }
void* spawn_load(void* closure) noexcept { return *static_cast<void**>(closure); }

void spawn_abort(void* closure) noexcept {
  G* g = g_of_closure(closure);
  if (g->ext) {
    if (g->ext->stack_max) put_sized(g->stk);
    if (g->ext->keeper) keeper_drop(g->ext->keeper);
    delete g->ext;
    g->ext = nullptr;
  }
  M* m = me();
  if (!m) return g_free_anywhere(g);
  m = enter_here(m);
  g_free(m->p, g);
  leave(m);
}

} // namespace detail

void yield() noexcept {
  if (M* m = me()) yield_here(m);
  else sched_yield();
}

namespace this_goroutine {
std::uint64_t id() noexcept {
  M* m = me();
  return m ? m->g->id : 0;
}
std::string_view name() {
  M* m = me();
  return m && m->g->ext ? std::string_view(m->g->ext->name) : std::string_view();
}
void set_name(std::string_view s) {
  M* m = me();
  if (!m) return;
  G* g = m->g;
  if (!g->ext) g->ext = new g_ext; // malloc does not switch, so g is still the current goroutine
  std::memset(g->ext->name, 0, sizeof g->ext->name);
  s.copy(g->ext->name, sizeof g->ext->name - 1);
}
stack_bounds stack() noexcept {
  M* m = me();
  stack::bounds b{};
  if (m && m->g->stk) stack::find(m->g->stk - 1, b);
  return {b.low, b.high};
}
} // namespace this_goroutine
} // namespace grt
