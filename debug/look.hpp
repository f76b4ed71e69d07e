// debug/look.hpp - one goroutine, seen while it may be running, waking or ending.
//
// A goroutine is read between two reads of its sequence count (sched/protocol/look.hpp). If the two differ it was
// switched to or from meanwhile, and the look is repeated; after a few times it counts as running. A goroutine whose
// count is odd runs, and its stack is in use: it is shown only if the goroutine runs without a P, and its thread
// answers (debug/sample.hpp).
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
  unsigned more = 0;          // a select: further channels
  std::uint64_t since_ns = 0; // steady clock; 0: it neither waits nor runs without a P
  std::uintptr_t site = 0;    // of its creation, if not in file and line
  unsigned line = 0;
  int tid = 0;           // foreign, and running: its thread
  bool detached = false; // running without a P
  char file[160] = {}, name[48] = {};
  unsigned n_frames = 0;
  void* frames[unwinder::most];
};

/// How many goroutines stand in p's queues.
inline std::uint32_t queued(const P* p) noexcept {
  return p->queue.racy_surplus() + p->queue.racy_has_next();
}

/// false: no goroutine there. Async-signal-safe.
bool look(const G* g, sighting& s, unwinder& u) noexcept;

} // namespace grt::debug
