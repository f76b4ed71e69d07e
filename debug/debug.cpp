// debug/debug.cpp - dump and metrics: reads the slab registry without stopping anybody.
#include <grt/debug.hpp>
#include <grt/runtime.hpp>

#include "base/check.hpp"
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
  static constexpr const char* names[] = {"madvise", "mprotect", "canary"};
  return n_made.load(std::memory_order_acquire) ? names[static_cast<int>(stack::guards())] : ""; // [PROCS-1]
}

std::size_t stack_bytes() noexcept { return stack::resident_bytes(); }

} // namespace grt::debug
