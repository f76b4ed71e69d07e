// stack/windows.hpp - windows, the stacks of goroutines: reserved address space with a guard at the low end.
//
// There is one arena per size class (64 KB .. 8 MB). It is reserved PROT_NONE and opened in chunks of 64 MB. A window
// has `stride` bytes, from low to high addresses:
//   guard     64 KB
//   usable    stack_max bytes
//   one page  so that strides are not powers of two: such strides collide in TLB and page tables
// The kernel commits a window page by page. A window is named by its top, the 16-byte aligned address below which its
// first frame begins. Tops are coloured: they differ by up to 1 KB between neighbours, so that the first frames of all
// goroutines do not compete for the same cache sets. At least 2 KB of the first page are left to user frames.
//
// Credits. Every goroutine of the default class holds one credit from the moment its G slot is made. Windows are opened
// so that there are never fewer than credits + slack; the slack is what caches may hold back. So there is always a
// window for a goroutine that exists, and "no memory" is reported by go(), where memory was asked for.
//
// Nothing here knows what a G is. Any thread may call any function, except get/put on a cache. refill and open take one
// lock.
#pragma once
#include <cstddef>
#include <cstdint>

#include "stack/guards.hpp"

namespace grt::stack {

struct config {
  std::size_t stack_max = 256 << 10; // of the default class
  int guard = -1;                    // a guard_kind to force, or -1
  long mprotect_budget = -1;         // mappings that guards may add; -1: computed from /proc when needed
};
inline constexpr std::size_t stack_max_least = 64 << 10, stack_max_most = 8 << 20;

/// Call before anything else; later calls do nothing. @throws std::system_error: no address space;
/// std::invalid_argument: stack_max out of range.
void start(const config&);
/// Rounds up to a class; 0 is the default class. @throws std::invalid_argument naming the value and the range.
std::size_t round_stack_max(std::size_t bytes);

/// The windows of the default class that a P keeps for itself; the newest is taken first. Only the P's owner uses it.
struct cache {
  std::uint32_t n = 0, batch = 1, limit = 0; // limit: 2 * batch_most(), set by the first put
  std::uint32_t pass = 0;                    // reclaim.hpp: the last pass in which it gave some back
  char* top[256];
};
/// Returns how many windows move between a P and the pool at once. It is 128, or fewer if address space is so short
/// that the caches of 1,024 Ps could use up a quarter of it. Valid after start.
std::uint32_t batch_most() noexcept;
char* refill(cache& c) noexcept;
void spill(cache& c) noexcept;
inline bool has(const cache& c) noexcept { return c.n; }
inline char* get(cache& c) noexcept { return c.n ? c.top[--c.n] : refill(c); }
/// The caller may still run on the window: nothing is written into it.
inline void put(cache& c, char* top) noexcept {
  c.top[c.n++] = top;
  if (c.n >= c.limit) spill(c);
}

[[nodiscard]] bool take_credits(std::size_t n) noexcept;
/// Reserves room for what the caches of so many Ps hold back.
void set_slack(unsigned procs) noexcept;
/// Takes a window of any class, on the slow path. Returns null if there is no memory.
char* get_sized(std::size_t stack_max) noexcept;
void put_sized(char* top) noexcept;

struct bounds {
  char *guard, *low, *high;
  std::size_t stack_max;
};
/// Finds the window, guard included, that contains this address. Async-signal-safe.
bool find(const void* address, bounds& out) noexcept;
/// The same, but only if the address lies in a guard that exists.
bool find_guard(const void* address, bounds& out) noexcept;

// Canaries. A canary is eight words at the low end of a window that has no guard. Nobody uses the 64 KB of memory below
// it. Below those 64 KB is the first frame of the next lower window. All these functions are async-signal-safe.
/// Returns whether top's window has a canary instead of a guard.
bool unguarded(const char* top) noexcept;
/// Returns false if top's window has no guard and has overflowed. Only worth calling once guards() returns `canary`.
bool canary_intact(const char* top) noexcept;
/// Returns true if top's window has no guard and has overflowed. Finds also an overflow whose frames have left out the
/// canary, by looking for anything that was written below it. Cost: a system call.
bool ran_over(const char* top) noexcept;
/// Returns the top of the window whose overflow may have destroyed frames on top's window, or null. It is the uppermost
/// window of an unbroken row of windows with broken canaries that begins with top's own window or the one above it.
char* overrun_above(const char* top) noexcept;
/// Returns the top of the uppermost window that has overflowed, or null. Cost: a microsecond for each window without a
/// guard.
char* find_overrun() noexcept;

struct counts {
  std::size_t opened, credits;
};
counts read_counts() noexcept;
/// Returns how many bytes of all windows ever made are in memory now. Cost: 10 ns per page of address space.
std::size_t resident_bytes() noexcept;
/// Returns how much address space may be reserved at once here. Valid after start.
std::size_t most_reserved() noexcept;

} // namespace grt::stack
