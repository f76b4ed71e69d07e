// grt/debug.hpp - seeing what the runtime does.
#pragma once
#include <cstddef>
#include <cstdint>

namespace grt::debug {

/// Writes one paragraph per goroutine (id, name, state, what it waits for, where it was created) to the descriptor
/// `fd`. Any thread, also from a signal handler: allocates nothing, takes no lock, and therefore may show a goroutine
/// that moves on meanwhile in its old state. Starts nothing. Go: what SIGQUIT prints.
void dump(int fd) noexcept;

/// Counts since the runtime started; a racy but never torn snapshot.
struct metrics {
  std::uint64_t spawned;    ///< goroutines ever started
  std::uint64_t goroutines; ///< now alive
  std::uint64_t switches;   ///< scheduling decisions, modulo 2^32 on each processor
  std::uint64_t steals;     ///< times a processor took goroutines over from another one
  std::uint64_t stolen;     ///< goroutines moved by that
  std::uint64_t wakes;      ///< futex wakes of a sleeping runtime thread
  std::uint64_t threads;    ///< runtime threads
  std::uint64_t windows;    ///< stack windows made so far (they are reused, not returned)
};
/// Any thread. Cost: a few microseconds.
metrics read_metrics() noexcept;

/// How the stacks are guarded: "madvise", "poison", "mprotect" or "canary"; "" before the start. See README, "Guards by
/// kernel".
const char* guards() noexcept;

/// Bytes of stack in memory now, free windows included. Any thread. Cost: it asks the kernel about every window, some
/// 0.5 us each.
std::size_t stack_bytes() noexcept;

/// Gives back to the kernel, at once, what stacks hold and do not use: the pages of free ones, and of parked
/// goroutines' what lies more than a page below where they stand. Processors that are busy keep the windows they have
/// put by until they look around next; call it again to have those, too. Any thread; does nothing before the start.
/// Blocks the caller's processor meanwhile: some 50 ms for a million goroutines, and a microsecond for each page that
/// goes. A goroutine that is woken while its own stack is looked at runs some microseconds later. Go:
/// debug.FreeOSMemory.
void release_memory() noexcept;

} // namespace grt::debug
