// stack/arena.hpp - an arena and its pool, for windows.cpp and reclaim.cpp.
//
// The pool is a stack of free windows, newest on top; `carved` windows exist, all of them given out, put by or in here.
// Three marks part it, cold <= cleaning <= pooled and low <= pooled:
//   [0, cold)         have no pages
//   [cold, cleaning)  reclaim.cpp is dropping their pages just now (64 at most): nobody takes them; 0: it is not
//   [0, low)          nobody has needed since the pass began
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/spin.hpp"
#include "stack/windows.hpp"

namespace grt::stack {

inline constexpr std::size_t page = 4096, classes = 8, clean_most = 64;

// memcpy, which TSan would see: it does not see the lock and the bracket that order these.
inline void copy(char** to, char* const* from, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; i++) *const_cast<char* volatile*>(to + i) = from[i];
}

struct arena {
  char* base = nullptr;
  std::size_t stride = 0, usable = 0, capacity = 0;
  std::size_t opened = 0, carved = 0;                      // windows, under lock
  std::atomic<std::size_t> canaries_from{~std::size_t{0}}; // windows from here on have no guard; set once
  char** pool = nullptr;                                   // free windows, a NORESERVE array
  std::size_t pooled = 0, cold = 0, cleaning = 0, low = 0; // under lock
  std::uint64_t* deep = nullptr;                           // a bit a window; the pass's alone
  std::size_t looked = 0, at = 0, end = 0;                 // where the pass is

  std::size_t index(const char* address) const noexcept { return static_cast<std::size_t>(address - base) / stride; }
  char* window(std::size_t i) const noexcept { return base + i * stride; }
  bool canary(std::size_t i) const noexcept { return i >= canaries_from.load(std::memory_order_relaxed); }

  // Under lock.
  std::size_t take(char** to, std::size_t n) noexcept {
    n = std::min(n, pooled - cleaning);
    pooled -= n;
    copy(to, pool + pooled, n);
    low = std::min(low, pooled);
    cold = std::min(cold, pooled);
    return n;
  }
  void put(char* const* from, std::size_t n) noexcept {
    copy(pool + pooled, from, n);
    pooled += n;
  }
};

extern arena arenas[classes];
extern spin_lock lock;
extern int pidfd; // of this process, or -1
/// Which holds this address; null: none. Async-signal-safe.
arena* arena_of(const void* address) noexcept;
/// The n oldest of a P's windows go to the pool.
void give_oldest(cache& c, std::uint32_t n) noexcept;

} // namespace grt::stack
