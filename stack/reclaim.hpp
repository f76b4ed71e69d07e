// stack/reclaim.hpp - pages of windows go back to the kernel. Which and when is up to sched/monitor/scavenge.cpp.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "stack/windows.hpp"

namespace grt::stack {

extern std::atomic<std::uint32_t> passes; // begun so far

/// A P's owner, when it looks around: once a pass the older half of its windows goes to the pool.
void give_back_half(cache& c) noexcept;
inline void age(cache& c) noexcept {
  if (c.pass != passes.load(std::memory_order_relaxed)) give_back_half(c);
}
/// The same for all of them, before it sleeps.
void give_back(cache& c) noexcept;

struct span {
  char *low, *high;
};
/// The pages of top's window that lie a page and the red zone below sp. false: none, or sp is elsewhere.
bool below(const char* top, const char* sp, span& out) noexcept;
/// true: their memory is the kernel's again; they read as zeros.
bool drop(const span& s) noexcept;

// One pass at a time, in this order, each called until it says false. None takes long.
/// all: also windows that were in use a moment ago.
void reclaim_begin(bool all) noexcept;
/// Counts the windows it emptied.
bool drop_free(std::uint64_t& dropped) noexcept;
/// Of the list of free windows, what is not in use.
bool drop_lists() noexcept;
/// The page tables of windows without pages.
bool drop_tables() noexcept;
/// Whether this kernel gives any back.
bool tables_go() noexcept;
bool find_deep() noexcept;
/// Had more than its two upper pages in memory when find_deep came by; true where that is not known.
bool deep(const char* top) noexcept;

} // namespace grt::stack
