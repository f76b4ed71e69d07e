// sched/ring.cpp - see ring.hpp.
#include "sched/ring.hpp"

#include <sys/mman.h>

namespace grt {

GRT_NOINLINE bool ring::grow() noexcept {
  std::uint32_t n = slots ? (mask + 1) * 2 : 512; // one page
  void* mem = mmap(nullptr, n * sizeof(G*), /* NOLINT(bugprone-sizeof-expression) */ PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mem == MAP_FAILED) return false;
  G** bigger = static_cast<G**>(mem);
  std::uint32_t have = size();
  for (std::uint32_t i = 0; i < have; i++)
    bigger[i] = slots[(head + i) & mask]; // NOLINT(clang-analyzer-core.NullDereference): none without slots
  slots = bigger;                         // the old array stays: a thief may be looking
  mask = n - 1;
  head = 0;
  tail = have;
  return true;
}

} // namespace grt
