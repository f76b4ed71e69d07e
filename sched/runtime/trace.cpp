// sched/runtime/trace.cpp - the event record: events go to rings, which are read once recording is over.
//
// A *track* is one ring and the thread that writes it: the first M of a P. All other threads share one track under
// `lock`: threads of the program, threads of pinned goroutines, Ms that took a P over, and Ms of Ps that were made
// while recording. So every event is either in a ring or was overwritten there; `lost` counts the latter.
//
// The rings live from record() to stop_recording(), which unmaps them. A writer may have seen the hook set and be
// preempted long before it writes. So it announces itself and looks at the hook again: [TRACE-2]
//
//   writer:  writing = 1; compiler barrier; read hooks; write; writing = 0
//   stop:    clear the hook; membarrier; wait until writing == 0; read; unmap
//
// At least one of the two sees the other. A writer waits for nothing between the two stores, so stop waits at most
// until the writer gets a core.
#include <grt/runtime.hpp>
#include <grt/trace.hpp>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <system_error>

#include <sched.h>
#include <sys/mman.h>

#include "base/futex.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"

namespace grt {
namespace {
struct ring_of_events {
  trace::event* events;
  std::size_t capacity;
  std::uint64_t n;
};
struct alignas(64) track {
  std::atomic<std::uint32_t> writing{0};
  ring_of_events ring{}; // ring.events is null while there is no ring
};
spin_lock lock; // guards the shared track and `now`
track tracks[procs_max], shared;
enum class phase : std::uint8_t { off, changing, on } now = phase::off;
std::uint64_t begin_ns;

void put(ring_of_events& r, const trace::event& e) noexcept { r.events[r.n++ % r.capacity] = e; }

// Makes e.ns relative to begin_ns. Before, it is a time on CLOCK_MONOTONIC, or 0 for now.
void stamp(trace::event& e) noexcept {
  std::uint64_t at = e.ns ? e.ns : now_ns();
  e.ns = at - std::min(at, begin_ns);
}

bool recording_now() noexcept { return hooks.load(std::memory_order_acquire) & hook_trace; } // [TRACE-1]

// Writes e to the thread's own track. Returns false if this M has no ring of its own.
bool put_own(track& t, trace::event& e) noexcept {
  t.writing.store(1, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst); // [TRACE-2] before the read of hooks; the membarrier fences
  bool on = recording_now(), own = on && t.ring.events;
  if (own) {
    stamp(e);
    put(t.ring, e);
  }
  t.writing.store(0, std::memory_order_release); // [TRACE-2]
  return own || !on;
}

bool map_ring(ring_of_events& r, std::size_t capacity) noexcept {
  if (capacity > std::numeric_limits<std::size_t>::max() / 2 / sizeof(trace::event)) return false;
  void* p = mmap(nullptr, capacity * sizeof(trace::event), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  r = {static_cast<trace::event*>(p), capacity, 0};
  return true;
}
void unmap_ring(ring_of_events& r) noexcept {
  if (r.events) munmap(r.events, r.capacity * sizeof(trace::event));
  r = {};
}
void unmap_rings() noexcept {
  for (track& t : tracks) unmap_ring(t.ring);
  unmap_ring(shared.ring);
}

// Begins a change of phase; there is one at a time. Returns false if the phase is not `expected`.
bool change_from(phase expected) noexcept {
  held_guard hold(lock);
  if (now != expected) return false;
  now = phase::changing;
  return true;
}
void change_to(phase p) noexcept {
  held_guard hold(lock);
  now = p;
}
} // namespace

GRT_NOINLINE void record_slow(M* m, trace::kind what, std::uint64_t g, std::uint64_t other, std::uint32_t arg,
                              std::uint64_t at_ns) noexcept {
  if (GRT_UNLIKELY(forked.load(std::memory_order_relaxed))) die_forked();
  trace::event e{at_ns, g, other, m ? m->p->id : trace::no_processor, arg, what};
  if (m && m->id < procs_max && put_own(tracks[m->id], e)) return;
  held_guard hold(lock);
  if (now != phase::on) return;
  stamp(e);
  put(shared.ring, e);
}

namespace trace {
void record(std::size_t events_max) {
  start_runtime();
  if (!change_from(phase::off)) throw std::logic_error("grt: a recording runs already");
  std::size_t capacity = std::max<std::size_t>(events_max, 16);
  unsigned n = n_made.load(std::memory_order_acquire); // [PROCS-1]
  bool mapped = map_ring(shared.ring, capacity);
  for (unsigned i = 0; i < n && mapped; i++) mapped = map_ring(tracks[i].ring, capacity);
  if (!mapped) {
    unmap_rings();
    change_to(phase::off);
    throw std::system_error(ENOMEM, std::generic_category(), "grt::trace::record");
  }
  begin_ns = now_ns();
  change_to(phase::on);
  hooks.fetch_or(hook_trace, std::memory_order_seq_cst); // [TRACE-1] publishes the rings and begin_ns
}

recording stop_recording() {
  if (!change_from(phase::on))
    throw std::logic_error("grt: no recording runs");      // from here on no thread writes to `shared`
  hooks.fetch_and(~hook_trace, std::memory_order_seq_cst); // [TRACE-2] before the reads of `writing`
  membarrier();
  for (track& t : tracks)
    while (t.writing.load(std::memory_order_acquire)) sched_yield(); // [TRACE-2] sees what the writer wrote
  struct ending {
    ~ending() {
      unmap_rings();
      change_to(phase::off);
    }
  } end; // runs also if there is no memory for the copy
  recording r;
  r.procs = n_procs.load(std::memory_order_relaxed);
  auto take = [&r](const ring_of_events& from) {
    if (!from.events) return;
    std::uint64_t n = std::min<std::uint64_t>(from.n, from.capacity);
    r.lost += from.n - n;
    r.events.insert(r.events.end(), from.events, from.events + n);
  };
  for (track& t : tracks) take(t.ring);
  take(shared.ring);
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
