// sched/core/ring.hpp - a P's private queue: a power-of-two ring that doubles, touched only inside the owner's bracket.
//
// No locked instruction anywhere. A thief that merely looks may read `slots`, `head` and `tail` at any moment and get
// nonsense; it acts on it only through the protocol of sched/protocol/bracket.hpp. So an outgrown array is never unmapped
// while the process lives, it only loses its pages. Rejected: an intrusive list (two dependent misses per pop with
// 100,000 goroutines; nothing to prefetch from).
#pragma once
#include <cstdint>

#include "arch/arch.hpp"

namespace grt {

struct G;

struct ring {
  static constexpr std::uint32_t least = 512; // slots that any array has; one page
  G** slots = nullptr;
  std::uint32_t mask = 0, head = 0, tail = 0;

  std::uint32_t size() const noexcept { return tail - head; }
  /// false: no memory for a larger array, nothing was pushed.
  [[nodiscard]] bool push(G* g) noexcept {
    if (GRT_UNLIKELY(!slots || tail - head > mask) && !grow()) return false;
    slots[tail & mask] = g;
    tail++;
    return true;
  }
  G* pop_front() noexcept { return slots[head++ & mask]; }
  G* pop_back() noexcept { return slots[--tail & mask]; }
  /// The owner, about to sleep: what a crowd once needed goes back.
  void trim() noexcept {
    if (GRT_UNLIKELY(mask >= large && tail == head)) shrink();
  }
  G* at(std::uint32_t i) const noexcept { return slots[(head + i) & mask]; }

private:
  static constexpr std::uint32_t large = 16384; // 128 KB
  G **first = nullptr, **spare = nullptr;       // the smallest array; a large one that trim() has put by, without pages
  std::uint32_t spare_n = 0;
  bool grow() noexcept;
  void shrink() noexcept;
  void drop_pages() noexcept;
};

} // namespace grt
