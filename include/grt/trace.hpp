// grt/trace.hpp - which goroutine ran when on which processor, and who woke whom.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace grt::trace {

/// What an event says. `g` is the goroutine it is about, `other` the second party; 0 stands for a foreign thread, a
/// timer or nobody.
enum class kind : std::uint8_t {
  spawn, ///< g was made by `other`, in source line `arg` if known
  run,   ///< g begins or goes on running on processor p
  yield, ///< g gives way and stays runnable
  park,  ///< g waits; `arg` is a wait_reason
  ready, ///< g was made runnable by `other`
  exit,  ///< g ended
  steal, ///< processor p took `arg` goroutines over from processor `other`
  sleep, ///< processor p found nothing to do
  wake,  ///< processor p was woken
};

/// Why a goroutine waits. Printed by debug::dump in the same words.
enum class wait_reason : std::uint8_t {
  none,
  chan_send,
  chan_receive,
  select,
  nil_chan,
  mutex,
  wait_group,
  sleep,
  semaphore,
  latch,
  barrier,
  condition_variable,
  shared_mutex,
  other
};

/// "chan receive", "select" ...
const char* to_string(wait_reason r) noexcept;

struct event {
  std::uint64_t ns;    ///< since record() began
  std::uint64_t g;     ///< goroutine id
  std::uint64_t other; ///< goroutine id, or processor for `steal`
  std::uint32_t p;     ///< processor; no_processor for a foreign thread
  std::uint32_t arg;
  kind what;
};
inline constexpr std::uint32_t no_processor = ~std::uint32_t{0};

struct recording {
  std::vector<event> events; ///< in order of time
  std::uint64_t lost = 0;    ///< events that no longer fitted into their ring: the oldest ones go first
  unsigned procs = 0;
};

/// Begins to record into rings of `events_max_per_thread` events (40 bytes each, 16 events at least); older events are
/// overwritten. Each processor's first thread has a ring; all other threads, and processors that set_procs adds while
/// recording, share one. Any thread; starts the runtime. Costs some 10 ns an event while on, one predicted branch while
/// off. @throws std::logic_error if a recording runs already; std::system_error: no memory.
void record(std::size_t events_max_per_thread = 1 << 16);

/// Ends the recording, returns it and frees the rings. Any thread; waits for threads that are about to write an event.
/// @throws std::logic_error if none runs; std::bad_alloc: the recording is over, and lost.
recording stop_recording();

} // namespace grt::trace
