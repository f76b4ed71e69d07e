// stack/arena.hpp - an arena and its free windows, for windows.cpp and reclaim.cpp.
//
// `carved` windows exist: given out, put by on a P, held by the reclaimer (held_most of them, which nobody may take),
// or free. A free one is either
//   pooled  in the stack pool[bottom, top), newest on top; nobody has needed those below `low` since the pass began
//   cold    without pages: a bit in `cold`, and in no list. Taken when the pool is empty, lowest first.
// 64 windows, a word of `cold`, share a `guarding`. While all of them are cold they may be bare: their guards are gone,
// so that the kernel could take the page tables, too; the first to be taken again brings back the guards of all.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/spin.hpp"
#include "stack/windows.hpp"

namespace grt::stack {

inline constexpr std::size_t page = 4096, classes = 8, per_word = 64, held_most = 3 * per_word;
inline constexpr std::uint64_t full_word = ~std::uint64_t{0};

// memcpy, which TSan would see: it does not see the lock and the bracket that order these.
inline void copy(char** to, char* const* from, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; i++) *const_cast<char* volatile*>(to + i) = from[i];
}

/// madvise: all 64 by MADV_GUARD_INSTALL, as long as only that was asked; other: for good.
enum class guarding : std::uint8_t { madvise, bare, other };

struct arena {
  char* base = nullptr;
  std::size_t stride = 0, usable = 0, capacity = 0;
  std::size_t opened = 0, carved = 0; // windows, under lock

  // All of these NORESERVE; under lock but for `canaries`.
  char** pool = nullptr;                                 // [capacity]
  std::uint64_t* cold = nullptr;                         // a bit a window
  guarding* guards = nullptr;                            // one a word
  std::atomic<std::uint64_t>* canaries = nullptr;        // a bit a window: a canary stands in for the guard
  std::size_t bottom = 0, top = 0, low = 0, used_to = 0; // used_to: where pool has pages
  std::size_t cold_n = 0, cold_from = 0;                 // no word below cold_from has any
  std::size_t held = 0;                                  // by the reclaimer

  std::uint64_t* deep = nullptr;                 // a bit a window; the pass's alone
  std::size_t looked = 0, left = 0, at_word = 0; // where the pass is

  std::size_t index(const char* address) const noexcept { return static_cast<std::size_t>(address - base) / stride; }
  char* window(std::size_t i) const noexcept { return base + i * stride; }
  char* top_of(std::size_t i) const noexcept { return window(i + 1) - 64 * (i % 16) - 16; }
  bool canary(std::size_t i) const noexcept {
    return canaries[i / per_word].load(std::memory_order_relaxed) >> (i % per_word) & 1;
  }

  // Under lock. Volatile as in copy().
  void set_guards(std::size_t word, guarding g) noexcept { *const_cast<volatile guarding*>(guards + word) = g; }
  void set_cold(std::size_t word, std::uint64_t bits) noexcept {
    *const_cast<volatile std::uint64_t*>(cold + word) = bits;
  }
  std::size_t pooled() const noexcept { return top - bottom; }
  void slide() noexcept { // to the lower end of the array
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
    if (top + n > capacity) slide();
    copy(pool + top, from, n);
    top += n;
    used_to = std::max(used_to, top);
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
