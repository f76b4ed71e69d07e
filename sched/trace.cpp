// sched/trace.cpp - the event record: one ring per M, written by its owner, read once recording is over.
#include <grt/runtime.hpp>
#include <grt/trace.hpp>

#include <algorithm>
#include <stdexcept>
#include <system_error>

#include <sys/mman.h>

#include "base/futex.hpp"
#include "sched/hooks.hpp"
#include "sched/sched.hpp"

namespace grt {
namespace {
struct track {
  trace::event* events;
  std::uint64_t n;
};
spin_lock lock; // start and stop; and the track of foreign threads and keepers
track tracks[procs_max + 1];
std::size_t capacity;
std::uint64_t begin_ns;

void put(track& t, trace::kind what, std::uint32_t p, std::uint64_t g, std::uint64_t other,
         std::uint32_t arg) noexcept {
  if (t.events) t.events[t.n++ % capacity] = {now_ns() - begin_ns, g, other, p, arg, what};
}
} // namespace

GRT_NOINLINE void record_slow(M* m, trace::kind what, std::uint64_t g, std::uint64_t other,
                              std::uint32_t arg) noexcept {
  if (GRT_UNLIKELY(forked.load(std::memory_order_relaxed))) die_forked();
  if (m && m->id < procs_max) return put(tracks[m->id], what, m->p->id, g, other, arg);
  spin_guard hold(lock);
  put(tracks[procs_max], what, m ? m->p->id : trace::no_processor, g, other, arg);
}

namespace trace {
void record(std::size_t events_max) {
  start_runtime();
  unsigned n = n_made.load(std::memory_order_acquire); // [PROCS-1]
  spin_guard hold(lock);
  if (hooks.load(std::memory_order_relaxed) & hook_trace) throw std::logic_error("grt: a recording runs already");
  capacity = std::max<std::size_t>(events_max, 16);
  begin_ns = now_ns();
  for (unsigned i = 0; i <= procs_max; i++) {
    if (i >= n && i < procs_max) continue;
    void* p = mmap(nullptr, capacity * sizeof(event), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::system_error(ENOMEM, std::generic_category(), "grt::trace::record");
    tracks[i] = {static_cast<event*>(p), 0};
  }
  hooks.fetch_or(hook_trace, std::memory_order_seq_cst); // [TRACE-1]
}

// A writer that saw the hook set may still be in put(): the membarrier ends none of that, so the rings stay mapped and
// what it writes late is lost.
recording stop_recording() {
  recording r;
  spin_guard hold(lock);
  if (!(hooks.fetch_and(~hook_trace, std::memory_order_seq_cst) & hook_trace))
    throw std::logic_error("grt: no recording runs"); // [TRACE-1]
  membarrier();
  r.procs = n_procs.load(std::memory_order_relaxed);
  for (track& t : tracks) {
    if (!t.events) continue;
    std::uint64_t n = std::min<std::uint64_t>(t.n, capacity);
    r.lost += t.n - n;
    r.events.insert(r.events.end(), t.events, t.events + n);
  }
  std::stable_sort(r.events.begin(), r.events.end(), [](const event& a, const event& b) { return a.ns < b.ns; });
  return r;
}

const char* to_string(wait_reason r) noexcept {
  static constexpr const char* names[] = {"none",    "chan send",          "chan receive", "select",    "nil chan",
                                          "mutex",   "wait group",         "sleep",        "semaphore", "latch",
                                          "barrier", "condition variable", "shared mutex", "other"};
  return static_cast<std::size_t>(r) < std::size(names) ? names[static_cast<std::size_t>(r)] : "?";
}
} // namespace trace
} // namespace grt
