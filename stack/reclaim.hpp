// stack/reclaim.hpp - gives pages of windows back to the kernel. sched/monitor/scavenge.cpp decides which and when.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stack/windows.hpp"

namespace grt::stack {

extern std::atomic<std::uint32_t> passes; // how many have begun

/// The owner of a P calls age() each time it searches for work. Once per pass, the older half of the P's windows goes
/// to the pool.
void give_back_half(cache& c) noexcept;
inline void age(cache& c) noexcept {
  if (c.pass != passes.load(std::memory_order_relaxed)) give_back_half(c);
}
/// Moves all windows of a P to the pool, before the P's owner sleeps.
void give_back(cache& c) noexcept;

struct span {
  char *low, *high;
};
/// Finds the pages of top's window that lie more than a page and the red zone below sp. Returns false if there are
/// none, or if sp is not in the window.
bool below(const char* top, const char* sp, span& out) noexcept;
/// Gives the pages of a span back to the kernel; they then read as zeros. Returns whether it did.
bool drop(const span& s) noexcept;

// The steps of a pass. There is one pass at a time. It begins with reclaim_begin(); then each of drop_free, drop_lists,
// drop_tables and find_deep is called, in this order, until it returns false. No single call takes long.
/// all: also drop windows that were in use a moment ago.
void reclaim_begin(bool all) noexcept;
/// Drops the pages of free windows. Adds the number of windows that it emptied to `dropped`.
bool drop_free(std::uint64_t& dropped) noexcept;
/// Drops the unused pages of the lists of free windows.
bool drop_lists() noexcept;
/// Drops the page tables of windows that have no pages.
bool drop_tables() noexcept;
/// Returns whether this kernel frees empty page tables.
bool tables_go() noexcept;
/// Marks the deep windows: those with more than their two upper pages in memory.
bool find_deep() noexcept;
/// Returns whether the window was deep when find_deep() last examined it. true if that is not known.
bool deep(const char* top) noexcept;

} // namespace grt::stack
