// stack/windows.hpp - where stacks stand: windows of reserved address space with a guard at the bottom.
//
// One arena per size class (64 KB .. 8 MB), reserved PROT_NONE and opened in chunks of 64 MB; a window is stride bytes:
// guard (64 KB) at the bottom, then stack_max usable, then one page, so that strides are no power of two. The kernel
// commits it page by page. A window is named by its top: the coloured, 16-byte aligned address a first frame starts
// under. Colours take at most 1 KB, so the first page leaves at least 2 KB to user frames. Credits: every goroutine of
// the default class holds one from the moment its G slot is made; windows are opened so that there are never fewer than
// credits + slack (what caches may hold back). So a goroutine that exists can always be given a window, and "no memory"
// is reported where it is asked for, by go(). Nothing here knows a G. Everything but get/put on a cache may be called
// by any thread; refill and open take one lock.
#pragma once
#include <cstddef>
#include <cstdint>

#include "stack/guards.hpp"

namespace grt::stack {

struct config {
  std::size_t stack_max = 256 << 10; // of the default class
  int guard = -1;                    // a guard_kind to force, or -1
  long mprotect_budget = -1;         // mappings; -1: read live
};
inline constexpr std::size_t stack_max_least = 64 << 10, stack_max_most = 8 << 20;

/// Once, before anything else. @throws std::system_error: no address space; std::invalid_argument: stack_max out of
/// range.
void start(const config&);
/// Rounds up to a class; 0 is the default class. @throws std::invalid_argument naming the value and the range.
std::size_t round_stack_max(std::size_t bytes);

/// A P's windows of the default class, newest first; its owner's alone.
struct cache {
  std::uint32_t n = 0, batch = 1, limit = 0; // limit: 2 * batch_most(), set by the first put
  std::uint32_t pass = 0;                    // reclaim.hpp: the last one it gave some back for
  char* top[256];
};
/// How many windows move between a P and the pool at once: 128, fewer where address space is so short that what 1,024
/// Ps put by could use up a quarter of it. Valid after start.
std::uint32_t batch_most() noexcept;
char* refill(cache& c) noexcept;
void spill(cache& c) noexcept;
inline bool has(const cache& c) noexcept { return c.n; }
inline char* get(cache& c) noexcept { return c.n ? c.top[--c.n] : refill(c); }
/// The caller may still stand on it: nothing is written into the window.
inline void put(cache& c, char* top) noexcept {
  c.top[c.n++] = top;
  if (c.n >= c.limit) spill(c);
}

[[nodiscard]] bool take_credits(std::size_t n) noexcept;
/// Room for what so many Ps put by.
void set_slack(unsigned procs) noexcept;
/// A window of any class, for the slow path. null: no memory.
char* get_sized(std::size_t stack_max) noexcept;
void put_sized(char* top) noexcept;

struct bounds {
  char *guard, *low, *high;
  std::size_t stack_max;
};
/// Which window, guard included, holds this address. Async-signal-safe.
bool find(const void* address, bounds& out) noexcept;
/// The same, if the address lies in a guard that is in place.
bool find_guard(const void* address, bounds& out) noexcept;

// Canaries: eight words at the low end of a window that has no guard. The 64 KB below are memory that nobody uses, and
// below those stands the next window's first frame. All of these are async-signal-safe.
/// A canary stands in for the guard of top's window.
bool unguarded(const char* top) noexcept;
/// false: a window without a guard has run over. Only worth asking once guards() says canary.
bool canary_intact(const char* top) noexcept;
/// The same, also for an overflow whose frames have left out the canary: looks for anything written below it. Cost: a
/// system call.
bool ran_over(const char* top) noexcept;
/// The window whose overflow may have destroyed frames on top's window, by its top: the uppermost of those, top's own
/// included, whose canaries are broken without a gap. null: none is.
char* overrun_above(const char* top) noexcept;
/// The uppermost window of all that ran over, by its top. null: none. Cost: a microsecond for each window without
/// guard.
char* find_overrun() noexcept;

struct counts {
  std::size_t opened, credits;
};
counts read_counts() noexcept;
/// Of all windows ever made: what is in memory now. Cost: 10 ns a page of address space.
std::size_t resident_bytes() noexcept;
/// How much address space may be reserved at once here; valid after start.
std::size_t most_reserved() noexcept;

} // namespace grt::stack
