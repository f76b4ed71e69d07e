// grt/debug.hpp - seeing what the runtime does.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace grt::debug {

enum class state : std::uint8_t {
  running,  ///< on a thread of the runtime now, with a processor or without
  runnable, ///< waits for a processor only
  waiting   ///< for what wait_reason says
};
/// "running", "runnable", "waiting".
const char* to_string(state s) noexcept;

/// One goroutine, as of a moment during the call that returned it.
struct goroutine_info {
  std::uint64_t id = 0;
  std::string name;
  state st{};
  std::string wait_reason;      ///< "chan receive", "mutex", "sleep" ... (trace::to_string); empty unless it waits
  const void* object = nullptr; ///< what it waits for: the address of the mutex, wait_group ...; of a channel that of
                                ///< the state all its handles share; of a select that of one of its channels
  /// Waiting: when it began to wait, early by as long as its processor was busy since it last looked around (64
  /// switches at most). Running without a processor: when its processor went to others. Else time_point{}.
  std::chrono::steady_clock::time_point since{};
  std::string created_at; ///< "file:line"; with go(f, args...), "symbol+offset", demangled
  /// Return addresses, innermost first, 64 at most. Empty before it ran, and while it runs with a processor. Of one
  /// that runs without a processor, the stack that its thread was asked for (with SIGURG, if the program left that
  /// signal alone), or, if the thread sleeps in the kernel, as much of it as can be found; empty if there was no
  /// answer.
  std::vector<void*> frames;
  std::size_t more_objects = 0; ///< a select: how many channels it waits for besides `object`
  int thread = 0;               ///< running: the id of its thread, as gettid(2) returns it there
  bool detached = false; ///< running without a processor: it computes or blocks, and its processor went to others
};

/// Every goroutine alive. Stops nobody: one that starts, moves on or ends meanwhile may be missing or stand in its old
/// state, but what is said of one goroutine was true of it at one moment; one that never holds still for a look is
/// `running`. Any thread. Starts nothing. Cost: 2 to 10 us a goroutine that waits, 20 us one that runs without a
/// processor (at most 70 ms, if its thread gets no core). Go: runtime.Stack(all).
/// @throws std::bad_alloc
std::vector<goroutine_info> snapshot();

/// Writes every goroutine (id, name, state, what it waits for and since when, its stack, where it was created), every
/// thread that waits in the runtime, and every processor to the descriptor `fd`. Any thread, also from a signal
/// handler: allocates nothing, takes no lock. Needs 6 KB of stack. As exact as snapshot(). Starts nothing.
///
/// The runtime does this to descriptor 2 on SIGQUIT (Ctrl-\) if that signal's disposition was the default when it
/// started, and the program goes on. Go: SIGQUIT, but there it ends the program.
void dump(int fd) noexcept;

/// Counts since the runtime started. A counter (spawned, switches, steals, stolen, wakes, handoffs, windows) never
/// falls; a gauge (the others) is as of a moment during the call.
struct metrics {
  std::uint64_t spawned;    ///< goroutines ever started
  std::uint64_t goroutines; ///< now alive
  std::uint64_t running;    ///< of these, on a thread now, with a processor or without
  std::uint64_t runnable;   ///< of these, in a run queue
  std::uint64_t waiting;    ///< of these, all others
  std::uint64_t switches;   ///< times a processor chose what to do next: a goroutine, or (every 64th time, and with
                            ///< nothing to run) to look around
  std::uint64_t steals;     ///< times a processor took goroutines over from another one
  std::uint64_t stolen;     ///< goroutines moved by that
  std::uint64_t wakes;      ///< times an idle processor was woken to look for work
  std::uint64_t threads;    ///< runtime threads, spare ones and the monitor included
  std::uint64_t handoffs;   ///< times a processor was taken from a goroutine that computed or blocked
  std::uint64_t adrift;     ///< goroutines that run without a processor now
  std::uint64_t windows;    ///< stack windows made so far (they are reused, not returned)
};
/// Any thread. Cost: a few microseconds. Bytes of stack are asked for with stack_bytes(), which costs more.
metrics read_metrics() noexcept;

/// How the stacks are guarded: "madvise", "poison", "mprotect" or "canary"; "" before the start. See README, "Guards by
/// kernel".
const char* guards() noexcept;

/// Bytes of stack in memory now, free windows included. Any thread. Cost: it asks the kernel about every window, some
/// 0.5 us each.
std::size_t stack_bytes() noexcept;

/// Gives back to the kernel, at once, what stacks hold and do not use: the pages of free ones, and of parked
/// goroutines' what lies more than a page below where they stand. Processors that are busy keep the windows they have
/// put by until they look around next; call it again to have those, too. Any thread; does nothing before the start, nor
/// in a forked child. Blocks the caller's processor meanwhile: some 50 ms for a million goroutines, and a microsecond
/// for each page that goes. A goroutine that is woken while its own stack is looked at runs some microseconds later.
/// Go: debug.FreeOSMemory.
void release_memory() noexcept;

} // namespace grt::debug
