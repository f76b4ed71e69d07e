// grt/trace.hpp - recording scheduler events: which goroutine ran when on which processor, and what woke it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::trace {

/// The kind of an event. The names in the comments are fields of `event`. For `g` and `other`, 0 stands for a foreign
/// thread (one that grt did not create), a timer, or none.
enum class kind : std::uint8_t {
  spawn, ///< `other` started g, in source line `arg` if that is known, else 0
  run,   ///< g begins or continues to run on processor p
  yield, ///< g gives its processor to others and stays runnable
  park,  ///< g begins to wait; `arg` is a wait_reason
  ready, ///< `other` made g runnable
  exit,  ///< g ended
  steal, ///< processor p took `arg` goroutines from processor `other`
  sleep, ///< processor p found no goroutine to run and went to sleep
  wake,  ///< processor p was woken
};

/// Why a goroutine waits. debug::dump prints to_string() of it.
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

/// Returns the reason in words: "chan receive", "select" and so on.
const char* to_string(wait_reason r) noexcept;

/// One event. `what` says which of the other fields have a meaning.
struct event {
  std::uint64_t ns;    ///< time since record() began
  std::uint64_t g;     ///< goroutine id
  std::uint64_t other; ///< goroutine id, or processor for `steal`
  std::uint32_t p;     ///< processor; no_processor for a foreign thread
  std::uint32_t arg;   ///< see kind
  kind what;
};
inline constexpr std::uint32_t no_processor = ~std::uint32_t{0};

/// The result of a recording.
struct recording {
  std::vector<event> events; ///< in order of time
  std::uint64_t lost = 0;    ///< events that were overwritten because their ring was full, the oldest first
  unsigned procs = 0;        ///< the number of processors when the recording ended
};

/// Begins to record events in rings of `events_max_per_thread` events (40 bytes each; at least 16 events). A full ring
/// overwrites its oldest events. The first thread of each processor has its own ring. All other threads share one, and
/// so do processors that set_procs() adds during the recording. Callable from any thread; starts the runtime. Cost:
/// about 10 ns for each event; one predicted branch when no recording runs.
/// @throws std::logic_error a recording runs already; std::system_error no memory.
void record(std::size_t events_max_per_thread = 1 << 16);

/// Ends the recording, returns it, and frees the rings. Callable from any thread. Waits, without parking, for threads
/// that are just writing an event.
/// @throws std::logic_error no recording runs; std::bad_alloc the recording has ended, and its events are lost.
recording stop_recording();

} // namespace grt::trace

#pragma GCC visibility pop
