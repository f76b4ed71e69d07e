// stack/arena.hpp - an arena, which holds the windows of one size class, and its free windows. For windows.cpp and
// reclaim.cpp.
//
// The lowest `carved` windows of an arena exist. Such a window is given out, in a P's cache, held by the reclaimer, or
// free. Nobody may take a held window; at most held_most are held at a time. A free window is either
//   pooled  It is in the stack pool[bottom, top), newest on top. Those below `low` have not been needed since the
//           current pass of the reclaimer began.
//   cold    It has no pages. It is a bit in `cold` and in no list. Cold windows are taken when the pool is empty, the
//           lowest address first.
// The 64 windows of one word of `cold` share a `guarding`. While all of them are cold they may be bare: their guards
// are removed as well, so that the kernel can free the page tables. When the first of them is taken again, the guards
// of all 64 are made again.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/check.hpp"
#include "base/spin.hpp"
#include "stack/windows.hpp"

namespace grt::stack {

inline constexpr std::size_t page = 4096, classes = 8, per_word = 64, held_most = 3 * per_word;
inline constexpr std::uint64_t full_word = ~std::uint64_t{0};

// A memcpy that TSan does not intercept: it would not see the lock and the bracket that order these accesses.
inline void copy(char** to, char* const* from, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; i++) *const_cast<char* volatile*>(to + i) = from[i];
}

/// How the 64 windows of one word are guarded.
///   madvise  all by MADV_GUARD_INSTALL; only these may become bare
///   bare     all are cold and their guards are removed
///   other    in another way, in several ways, or the program has locked the memory; never changes again
enum class guarding : std::uint8_t { madvise, bare, other };

struct arena {
  char* base = nullptr;
  std::size_t stride = 0, usable = 0, capacity = 0;
  std::size_t opened = 0, carved = 0; // numbers of windows, under lock

  // These arrays are mapped NORESERVE. All of them are accessed under lock, except `canaries`.
  char** pool = nullptr;                                 // [capacity]
  std::uint64_t* cold = nullptr;                         // one bit per window
  guarding* guards = nullptr;                            // one per word of `cold`
  std::atomic<std::uint64_t>* canaries = nullptr;        // one bit per window: it has a canary instead of a guard
  std::size_t bottom = 0, top = 0, low = 0, used_to = 0; // used_to: pool has no pages from here on
  std::size_t cold_n = 0, cold_from = 0;                 // no word below cold_from has a bit set
  std::size_t held = 0;                                  // number of windows that the reclaimer holds

  // Only the pass of the reclaimer uses these.
  std::uint64_t* deep = nullptr;                 // one bit per window
  std::size_t looked = 0, left = 0, at_word = 0; // the progress of the pass

  std::size_t index(const char* address) const noexcept { return static_cast<std::size_t>(address - base) / stride; }
  char* window(std::size_t i) const noexcept { return base + i * stride; }
  char* top_of(std::size_t i) const noexcept { return window(i + 1) - 64 * (i % 16) - 16; }
  bool canary(std::size_t i) const noexcept {
    return canaries[i / per_word].load(std::memory_order_relaxed) >> (i % per_word) & 1;
  }

  // Lock held. Volatile for the same reason as in copy().
  void set_guards(std::size_t word, guarding g) noexcept { *const_cast<volatile guarding*>(guards + word) = g; }
  void set_cold(std::size_t word, std::uint64_t bits) noexcept {
    *const_cast<volatile std::uint64_t*>(cold + word) = bits;
  }
  std::size_t pooled() const noexcept { return top - bottom; }
  void slide() noexcept { // moves the pool to the lower end of the array
    std::size_t n = pooled();
    if (bottom) copy(pool, pool + bottom, n);
    low -= std::min(low, bottom);
    bottom = 0;
    top = n;
  }
  std::size_t take(char** to, std::size_t n) noexcept {
    n = std::min(n, pooled());
    top -= n;
    copy(to, pool + top, n);
    low = std::min(low, top);
    if (top == bottom) top = bottom = low = 0;
    return n;
  }
  void put(char* const* from, std::size_t n) noexcept {
    GRT_CHECK(n <= carved, "more stacks are given back than were made");
    if (top + n > capacity) slide();
    copy(pool + top, from, n);
    top += n;
    used_to = std::max(used_to, top);
  }
};

extern arena arenas[classes];
extern spin_lock lock;
extern int pidfd; // of this process, or -1
/// Returns the arena that contains this address, or null. Async-signal-safe.
arena* arena_of(const void* address) noexcept;
/// Moves the n oldest windows of a P's cache to the pool.
void give_oldest(cache& c, std::uint32_t n) noexcept;

} // namespace grt::stack
