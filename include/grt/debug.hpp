// grt/debug.hpp - inspecting goroutines, and metrics of the runtime.
//
// A "processor" is the right to run goroutines (a P in Go); there are grt::procs() of them. A thread that runs a
// goroutine normally holds one. If the goroutine computes or blocks for long, its processor is given to another thread,
// and the goroutine runs on without one.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::debug {

/// What a goroutine is doing.
enum class state : std::uint8_t {
  running,  ///< it runs on a thread, with or without a processor
  runnable, ///< it could run and waits for a processor
  waiting   ///< it waits for something else; wait_reason says for what
};
/// Returns "running", "runnable" or "waiting".
const char* to_string(state s) noexcept;

/// Describes one goroutine at a moment during the call that returned it.
struct goroutine_info {
  std::uint64_t id = 0;
  std::string name;
  state st{};
  std::string wait_reason; ///< "chan receive", "mutex", "sleep" ... (see trace::to_string); empty unless st is waiting
  /// What it waits for: the address of the mutex, wait_group and so on. For a channel, the address of the state that
  /// all its handles share; for a select, that of one of its channels. Null if not waiting, or if it has no object.
  const void* object = nullptr;
  /// Waiting: when the wait began. The value can be too early by the time since the processor's last scheduler pass (at
  /// most 64 switches), because reading the clock at every park would cost more than the park. Running without a
  /// processor: when its processor was given away. Otherwise time_point{}.
  std::chrono::steady_clock::time_point since{};
  std::string created_at; ///< "file:line"; for a go(f, args...) "symbol+offset", demangled
  /// Return addresses, innermost first, at most 64. Empty if the goroutine has not run yet, or runs with a processor.
  /// If it runs without a processor, its thread is asked for its stack by SIGURG, provided that the program has not
  /// installed a handler for that signal. If that thread sleeps in the kernel, the frames that can be found without its
  /// help are given instead. Empty if the thread does not answer.
  std::vector<void*> frames;
  std::size_t more_objects = 0; ///< for a select: the number of channels it waits for in addition to `object`
  int thread = 0;               ///< if running: the id of its thread, as gettid(2) returns it there; else 0
  bool detached = false;        ///< it runs without a processor
};

/// Returns all goroutines that are alive. Callable from any thread. Does not stop them: a goroutine that starts, ends
/// or changes its state during the call may be missing or appear in its old state. The fields of one goroutine_info
/// were all true at the same moment. A goroutine that changes state faster than it can be read is reported as
/// `running`. Does not start the runtime. Cost: 2 to 10 us for each waiting goroutine; 20 us for each that runs without
/// a processor, and at most 70 ms if its thread gets no core. Go: runtime.Stack(all).
/// @throws std::bad_alloc
std::vector<goroutine_info> snapshot();

/// Writes a report to the descriptor `fd`: every goroutine (id, name, state, what it waits for and since when, stack,
/// place of creation), every thread outside grt that waits in the runtime, and every processor. Callable from any
/// thread and in a signal handler: it allocates nothing and takes no lock. Needs 6 KB of stack. As exact as snapshot().
/// Does not start the runtime.
///
/// On SIGQUIT (Ctrl-\) the runtime writes this report to descriptor 2 and the program goes on, provided that the
/// disposition of SIGQUIT was the default when the runtime started. Go: SIGQUIT, which also ends the program there.
void dump(int fd) noexcept;

/// Counters and gauges. A counter (spawned, switches, steals, stolen, wakes, handoffs, windows) counts from the start
/// of the runtime and never falls. A gauge (the others) is a value at some moment during the call.
struct metrics {
  std::uint64_t spawned;    ///< goroutines started
  std::uint64_t goroutines; ///< goroutines alive
  std::uint64_t running;    ///< of these: running on a thread, with or without a processor
  std::uint64_t runnable;   ///< of these: in a run queue
  std::uint64_t waiting;    ///< of these: all others
  std::uint64_t switches;   ///< scheduling decisions of processors. A decision chooses a goroutine, or a scheduler
                            ///< pass: every 64th time, and when there is no goroutine to run
  std::uint64_t steals;     ///< times that a processor took goroutines from another processor
  std::uint64_t stolen;     ///< goroutines that were moved by steals
  std::uint64_t wakes;      ///< times that an idle processor was woken to look for work
  std::uint64_t threads;    ///< threads of the runtime, including spare ones and the monitor
  std::uint64_t handoffs;   ///< times that a processor was taken from a goroutine that computed or blocked
  std::uint64_t adrift;     ///< goroutines running without a processor
  std::uint64_t windows;    ///< stack windows made. A window is the address range of one stack; windows are reused
};
/// Returns the current metrics. Callable from any thread; does not start the runtime. Cost: a few microseconds. The
/// bytes of stack in memory cost more to find; see stack_bytes().
metrics read_metrics() noexcept;

/// Returns how stacks are guarded against overflow: "madvise", "poison", "mprotect" or "canary", or "" before the
/// runtime has started. See README, "Guards by kernel".
const char* guards() noexcept;

/// Returns the bytes of stacks that are in memory, including free windows. Callable from any thread. Cost: about 0.5 us
/// for each window, for asking the kernel.
std::size_t stack_bytes() noexcept;

/// Returns unused memory to the kernel at once: the pages of free windows and of free goroutine records, and the pages
/// of a parked goroutine's stack that lie more than one page below its stack pointer. A busy processor keeps the free
/// windows in its own cache until its next scheduler pass; a second call, after that pass, releases these, too.
/// Callable from any thread. Does nothing before the runtime has started, or in a forked child. The call computes and
/// does not park: about 50 ms for a million goroutines, plus 1 us for each page released. A goroutine that is woken
/// while its own stack is examined runs some microseconds later. Go: debug.FreeOSMemory.
void release_memory() noexcept;

} // namespace grt::debug

#pragma GCC visibility pop
