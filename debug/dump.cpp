// debug/dump.cpp - writes all goroutines and processors as text to a descriptor. It takes no memory from the heap and
// no lock, so it works in a signal handler and in a program that is stuck.
#include <iterator>

#include <grt/debug.hpp>
#include <grt/runtime.hpp>

#include "base/check.hpp"
#include "debug/look.hpp"
#include "debug/peek.hpp"
#include "sched/core/ports.hpp"
#include "sched/goroutine/slab.hpp"

namespace grt::debug {
namespace {

void write_frames(text_out& t, const sighting& s, symbolizer& names) {
  for (unsigned i = 0; i < s.n_frames; i++) {
    auto pc = reinterpret_cast<std::uintptr_t>(s.frames[i]);
    const symbolizer::text& n = names.name(pc);
    t.str("    ").hex(pc);
    if (n.symbol[0]) t.str("  ").str(n.symbol);
    if (n.where[0]) t.str("  ").str(n.where);
    t.str("\n");
  }
}

void write_one(text_out& t, const sighting& s, symbolizer& names) {
  bool thread = s.kind == g_kind::foreign;
  t.str(thread ? "thread " : "goroutine ").dec(thread ? static_cast<unsigned>(s.tid) : s.id);
  if (s.name[0]) t.str(" \"").str(s.name).str("\"");
  t.str(" [").str(s.st == state::waiting ? trace::to_string(s.reason) : to_string(s.st)).str("]");
  if (s.st == state::running && s.tid) t.str(" on thread ").dec(static_cast<unsigned>(s.tid));
  if (s.detached) t.str(" without a processor");
  if (s.object) t.str(" on ").hex(reinterpret_cast<std::uintptr_t>(s.object));
  if (s.more) t.str(" and ").dec(s.more).str(" more");
  if (s.since_ns) {
    std::uint64_t now = now_ns(), ms = now > s.since_ns ? (now - s.since_ns) / 1000000 : 0;
    ms < 10000 ? t.str(" for ").dec(ms).str(" ms") : t.str(" for ").dec(ms / 1000).str(" s");
  }
  t.str("\n");
  write_frames(t, s, names);
  if (thread) return;
  t.str("    created at ");
  if (s.line) {
    t.str(s.file).str(":").dec(s.line).str("\n");
    return;
  }
  const symbolizer::text& n = names.name(s.site);
  t.hex(s.site);
  if (n.symbol[0]) t.str("  ").str(n.symbol);
  if (n.where[0]) t.str("  ").str(n.where);
  t.str("\n");
}

void write_goroutines(text_out& t, bool waiting_only) {
  symbolizer names;
  unwinder u;
  sighting s;
  const G* end = slab_begin() ? slab_end() : nullptr;
  for (const G* g = slab_begin(); g < end; g++)
    if (look(g, s, u) && (s.st == state::waiting || !waiting_only)) write_one(t, s, names);
}

// The values of lost_state, in words for a user.
constexpr const char* claims[] = {"",
                                  "asked for work by a thief",
                                  "giving work to a thief",
                                  "being taken from",
                                  "asked to reschedule",
                                  "in a call that may block",
                                  "its goroutine runs without it",
                                  "standing still: the process is exiting"};
static_assert(std::size(claims) == static_cast<std::size_t>(lost_state::count));

void write_processors(text_out& t) {
  unsigned asleep = 0;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) { // [PROCS-1]
    P* p = all_p[i].load(std::memory_order_relaxed);
    const M* m = p->m.load(std::memory_order_relaxed);
    const G* g = racy(m->g);
    t.str("processor ").dec(i).str(i < n_procs.load(std::memory_order_relaxed) ? "" : " (retired)");
    if (m->asleep.load(std::memory_order_relaxed)) asleep++, t.str(": asleep");
    else if (racy(g->kind) == g_kind::goroutine) t.str(": goroutine ").dec(racy(g->id));
    else t.str(": scheduler");
    t.str(", tick ").dec(racy(p->tick)).str(", waiting ").dec(queued(p));
    if (auto lost = m->lost.load(std::memory_order_relaxed); lost != lost_state::free)
      t.str(", ").str(claims[static_cast<unsigned>(lost)]);
    if (racy(m->woken_as_watcher)) t.str(", watcher");
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
} // namespace

const char* to_string(state s) noexcept {
  static constexpr const char* names[] = {"running", "runnable", "waiting"};
  return names[static_cast<unsigned>(s)];
}

void dump(int fd) noexcept {
  text_out t(fd);
  if (!n_made.load(std::memory_order_acquire)) return; // [PROCS-1]
  write_goroutines(t, false);
  write_processors(t);
}

} // namespace grt::debug

namespace grt {
void report_waiting(int fd) noexcept {
  text_out t(fd);
  debug::write_goroutines(t, true);
}
} // namespace grt
