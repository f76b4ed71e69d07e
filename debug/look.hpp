// debug/look.hpp - reads one goroutine while it may be running, waking up or ending.
//
// A goroutine is read between two reads of its sequence count (sched/protocol/look.hpp). If the two reads differ, the
// goroutine was switched to or from meanwhile, and the attempt is repeated. After a few attempts it counts as running.
// If the count is odd, the goroutine runs and its stack is in use. Its stack is then shown only if the goroutine runs
// without a P and its thread answers (debug/sample.hpp).
#pragma once
#include <cstdint>

#include <grt/debug.hpp>

#include "debug/peek.hpp"
#include "debug/unwind.hpp"
#include "sched/core/sched.hpp"

namespace grt::debug {

struct sighting {
  g_kind kind{}; // goroutine, or a foreign thread that waits
  std::uint64_t id = 0;
  state st{};
  wait_reason reason{};
  const void* object = nullptr;
  unsigned more = 0;          // for a select: the number of its other channels
  std::uint64_t since_ns = 0; // steady clock; 0: it neither waits nor runs without a P
  std::uintptr_t site = 0;    // where it was created: a code address, if line is 0
  unsigned line = 0;
  int tid = 0;           // foreign, or running: its thread
  bool detached = false; // running without a P
  char file[160] = {}, name[48] = {};
  unsigned n_frames = 0;
  void* frames[unwinder::most];
};

/// Returns how many goroutines are in p's queues.
inline std::uint32_t queued(const P* p) noexcept { return p->queue.racy_surplus() + p->queue.racy_has_next(); }

/// Returns false if there is no goroutine in that slot. Async-signal-safe.
bool look(const G* g, sighting& s, unwinder& u) noexcept;

} // namespace grt::debug
