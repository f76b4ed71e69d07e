// debug/snapshot.cpp - all goroutines as a vector, and the numbers that need no look at each goroutine.
#include <grt/debug.hpp>
#include <grt/runtime.hpp>

#include <cstdlib>
#include <cxxabi.h>
#include <memory>

#include "debug/look.hpp"
#include "debug/peek.hpp"
#include "sched/core/pin.hpp"
#include "sched/goroutine/slab.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/monitor/scavenge.hpp"
#include "sched/runtime/threads.hpp"

namespace grt::debug {
namespace {
std::string creation_site(const sighting& s, symbolizer& names) {
  if (s.line) return std::string(s.file) + ":" + std::to_string(s.line);
  const symbolizer::text& n = names.name(s.site);
  std::string symbol = n.symbol;
  if (symbol.empty()) return n.where;
  std::size_t plus = symbol.rfind('+');
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> plain(
      abi::__cxa_demangle(symbol.substr(0, plus).c_str(), nullptr, nullptr, &status), std::free);
  return plain ? plain.get() + symbol.substr(plus) : symbol;
}
} // namespace

std::vector<goroutine_info> snapshot() {
  std::vector<goroutine_info> all;
  if (!n_made.load(std::memory_order_acquire)) return all; // [PROCS-1]
  symbolizer names;
  unwinder u;
  sighting s;
  for (const G *g = slab_begin(), *end = slab_end(); g < end; g++) {
    if (!look(g, s, u) || s.kind != g_kind::goroutine) continue;
    goroutine_info& i = all.emplace_back();
    i.id = s.id;
    i.name = s.name;
    i.st = s.st;
    if (s.st == state::waiting) i.wait_reason = trace::to_string(s.reason);
    i.object = s.object;
    i.more_objects = s.more;
    i.thread = s.st == state::running ? s.tid : 0;
    i.detached = s.detached;
    i.since = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(s.since_ns));
    i.created_at = creation_site(s, names);
    i.frames.assign(s.frames, s.frames + s.n_frames);
  }
  return all;
}

namespace {
// Returns how often p has chosen what to run next. The result is never less than that of an earlier call.
std::uint64_t choices_of(const P* p) noexcept {
  for (;;) {
    std::uint32_t before = p->skips.load(std::memory_order_acquire); // [TICK-1]
    std::uint64_t skipped = racy(p->skipped), tick = racy(p->tick);
    std::atomic_thread_fence(std::memory_order_acquire); // [TICK-1]
    if (!(before & 1) && p->skips.load(std::memory_order_relaxed) == before) return tick - skipped;
  }
}
} // namespace

// The counters belong to the Ps. A P is never destroyed, and its counters change only inside its bracket. An M would
// take its counts along when it loses its P.
metrics read_metrics() noexcept {
  metrics r{};
  unsigned n = n_made.load(std::memory_order_acquire); // [PROCS-1]
  for (unsigned i = 0; i < n; i++) {
    P* p = all_p[i].load(std::memory_order_relaxed);
    r.spawned += p->spawned.load(std::memory_order_relaxed);
    r.switches += choices_of(p);
    r.steals += racy(p->steals);
    r.stolen += racy(p->stolen);
    r.runnable += queued(p);
  }
  for (const M* m = all_m.load(std::memory_order_acquire); m; m = m->made_before) // [MS-1]
    r.running += racy(racy(m->g)->kind) == g_kind::goroutine;
  r.wakes = wakes();
  r.spawned += detail::foreign_spawned.load(std::memory_order_relaxed);
  r.runnable += injected.n.load(std::memory_order_relaxed);
  r.goroutines = goroutines();
  r.runnable = std::min(r.runnable, r.goroutines - std::min(r.goroutines, r.running));
  r.waiting = r.goroutines - std::min(r.goroutines, r.running + r.runnable);
  r.threads = threads();
  r.handoffs = handoffs.load(std::memory_order_relaxed);
  r.adrift = adrift();
  r.windows = stack::read_counts().opened;
  return r;
}

const char* guards() noexcept {
  return n_made.load(std::memory_order_acquire) ? stack::guard_names[static_cast<int>(stack::guards())]
                                                : ""; // [PROCS-1]
}

std::size_t stack_bytes() noexcept {
  holding h;
  return stack::resident_bytes();
}

void release_memory() noexcept { scavenge_all(); }

} // namespace grt::debug
