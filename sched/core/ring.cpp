// sched/core/ring.cpp - see ring.hpp.
#include "sched/core/ring.hpp"

#include <sys/mman.h>

namespace grt {

GRT_NOINLINE bool ring::grow() noexcept {
  G** bigger = spare;
  std::uint32_t n = spare_n;
  if (!bigger) {
    n = slots ? (mask + 1) * 2 : least;
    void* mem = mmap(nullptr, n * sizeof(G*), /* NOLINT(bugprone-sizeof-expression) */ PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED) return false;
    bigger = static_cast<G**>(mem);
    if (!first) first = bigger;
  }
  for (std::uint32_t i = head; i != tail; i++) // head and tail keep their values: fair.cpp remembers positions
    bigger[i & (n - 1)] = slots[i & mask];     // NOLINT(clang-analyzer-core.NullDereference): none without slots
  if (slots != first) drop_pages();            // but stays mapped: a thief may be looking
  slots = bigger;
  spare = nullptr;
  mask = n - 1;
  return true;
}

GRT_NOINLINE void ring::shrink() noexcept {
  drop_pages();
  spare = slots;
  spare_n = mask + 1;
  slots = first;
  mask = least - 1;
}

void ring::drop_pages() noexcept {
  if (slots) madvise(slots, (mask + std::size_t{1}) * sizeof(G*), MADV_DONTNEED); // NOLINT(bugprone-sizeof-expression)
}

} // namespace grt
