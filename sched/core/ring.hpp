// sched/core/ring.hpp - a ring of goroutines, of which the queues of a P are made. Its size is a power of two and
// doubles on demand. Only code inside the owner's bracket changes it.
//
// No operation uses a locked instruction. A thief that merely looks may read `slots`, `head` and `tail` at any moment,
// and get values that do not fit together. It acts on them only through the protocol of sched/protocol/bracket.hpp. So
// an array that is too small is not unmapped while the process lives; it only loses its pages.
//
// Rejected: an intrusive list. With 100,000 goroutines it costs two dependent cache misses per pop, and gives nothing
// to prefetch from.
#pragma once
#include <cstdint>

#include "arch/arch.hpp"

namespace grt {

struct G;

struct ring {
  static constexpr std::uint32_t least = 512; // the slots of the smallest array: 4 KB, one page
  G** slots = nullptr;
  std::uint32_t mask = 0, head = 0, tail = 0;

  std::uint32_t size() const noexcept { return tail - head; }
  /// Returns false, and pushes nothing, if there is no memory for a larger array.
  [[nodiscard]] bool push(G* g) noexcept {
    if (GRT_UNLIKELY(!slots || tail - head > mask) && !grow()) return false;
    slots[tail & mask] = g;
    tail++;
    return true;
  }
  G* pop_front() noexcept { return slots[head++ & mask]; }
  G* pop_back() noexcept { return slots[--tail & mask]; }
  /// Caller: the owner, about to sleep. Gives back memory that only a crowd needed.
  void trim() noexcept {
    if (GRT_UNLIKELY(mask >= large && tail == head)) shrink();
  }
  G* at(std::uint32_t i) const noexcept { return slots[(head + i) & mask]; }

private:
  static constexpr std::uint32_t large = 16384; // 128 KB
  G **first = nullptr, **spare = nullptr; // the smallest array; a large one without pages, kept by trim() for reuse
  std::uint32_t spare_n = 0;
  bool grow() noexcept;
  void shrink() noexcept;
  void drop_pages() noexcept;
};

} // namespace grt
