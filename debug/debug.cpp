// debug/debug.cpp - dump and metrics: reads the slab registry without stopping anybody.
#include <grt/debug.hpp>
#include <grt/runtime.hpp>

#include "base/check.hpp"
#include "sched/scavenge.hpp"
#include "sched/sched.hpp"
#include "sched/slab.hpp"

namespace grt::debug {

void dump(int fd) noexcept {
  text_out t(fd);
  if (!slab_begin()) return;
  for (G* g = slab_begin(); g < slab_end(); g++) {
    if (g->kind != g_kind::goroutine && !(g->kind == g_kind::foreign && g->reason != wait_reason::none)) continue;
    if (g->kind == g_kind::foreign) t.str("thread");
    else t.str("goroutine ").dec(g->id);
    if (const g_ext* e = g->ext) {
      if (e->name[0]) t.str(" \"").str(e->name).str("\"");
      if (e->tid) t.str(" ").dec(static_cast<unsigned>(e->tid));
    }
    t.str(" [")
        .str(g->reason == wait_reason::none ? (g->sp ? "running or runnable" : "new") : trace::to_string(g->reason))
        .str("]\n");
    if (g->kind == g_kind::foreign) continue;
    t.str("    created at ");
    if (g->line) t.str(static_cast<const char*>(g->site)).str(":").dec(g->line).str("\n");
    else t.hex(reinterpret_cast<std::uintptr_t>(g->site)).str("\n");
  }
  unsigned asleep = 0;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) { // [PROCS-1]
    P* p = all_p[i].load(std::memory_order_relaxed);
    const M* m = p->m.load(std::memory_order_relaxed);
    const G* g = m->g;
    t.str("processor ").dec(i).str(i < n_procs.load(std::memory_order_relaxed) ? "" : " (retired)");
    if (m->asleep.load(std::memory_order_relaxed)) asleep++, t.str(": asleep");
    else if (g->kind == g_kind::goroutine) t.str(": goroutine ").dec(g->id);
    else t.str(": scheduler");
    t.str(", tick ").dec(p->tick).str(", waiting ").dec((p->next != nullptr) + surplus(p));
    if (auto lost = m->lost.load(std::memory_order_relaxed); lost != lost_state::free)
      t.str(", asked by a thief: ").dec(static_cast<unsigned>(lost));
    if (m->woken_as_watcher) t.str(", watcher");
    std::uint64_t next = p->timers.next_ns.load(std::memory_order_relaxed), now = now_ns();
    if (next != wheel::never)
      t.str(next <= now ? ", timer due for us " : ", timer in us ").dec((next <= now ? now - next : next - now) / 1000);
    t.str("\n");
  }
  t.str("global queue ").dec(injected.n.load(std::memory_order_relaxed));
  t.str(", asleep ")
      .dec(asleep)
      .str(need_watch.load(std::memory_order_relaxed) ? ", a push wakes one\n" : ", a push wakes nobody\n");
}

metrics read_metrics() noexcept {
  metrics r{};
  unsigned n = n_made.load(std::memory_order_acquire); // [PROCS-1]
  for (unsigned i = 0; i < n; i++) {
    P* p = all_p[i].load(std::memory_order_relaxed);
    M* m = p->m.load(std::memory_order_relaxed);
    r.spawned += p->spawned.load(std::memory_order_relaxed);
    r.switches += *const_cast<volatile std::uint32_t*>(&p->tick);
    r.steals += *const_cast<volatile std::uint64_t*>(&m->steals);
    r.stolen += *const_cast<volatile std::uint64_t*>(&m->stolen);
    r.wakes += *const_cast<volatile std::uint64_t*>(&m->wakes);
  }
  r.spawned += detail::foreign_spawned.load(std::memory_order_relaxed);
  r.goroutines = goroutines();
  r.threads = n;
  r.windows = stack::read_counts().opened;
  return r;
}

const char* guards() noexcept {
  return n_made.load(std::memory_order_acquire) ? stack::guard_names[static_cast<int>(stack::guards())]
                                                : ""; // [PROCS-1]
}

std::size_t stack_bytes() noexcept { return stack::resident_bytes(); }

void release_memory() noexcept { scavenge_all(); }

} // namespace grt::debug
