// base/futex.cpp - membarrier and what stands in for it.
//
// The mprotect substitute: taking write permission from a page this process has written makes the kernel interrupt
// every core that runs one of its threads, and an interrupt is a full fence on x86. On AArch64 the TLB is invalidated
// by broadcast without an interrupt, so it is not offered there - except under qemu-user, which runs each guest access
// in host order with a lock of its own; that is decided by asking the kernel, not by guessing.
#include "base/futex.hpp"

#include <linux/membarrier.h>
#include <sys/mman.h>

#include "base/spin.hpp"

namespace grt {
namespace {
enum class fence : unsigned char { expedited, global, mprotect };
fence kind = fence::expedited;
spin_lock page_lock;
void* page;

long call(int command) noexcept { return syscall(SYS_membarrier, command, 0, 0); }

void shoot_down() noexcept {
  spin_guard hold(page_lock);
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
  __atomic_fetch_add(static_cast<int*>(page), 1, __ATOMIC_RELAXED); // present and dirty, or nothing is shot down
  mprotect(page, 4096, PROT_READ);
}
} // namespace

bool membarrier_start() noexcept {
  if (call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 && call(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) {
    kind = fence::expedited;
    return true;
  }
  if (long have = call(MEMBARRIER_CMD_QUERY); have > 0 && (have & MEMBARRIER_CMD_GLOBAL)) {
    kind = fence::global;
    return true;
  }
  page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  kind = fence::mprotect;
  return page != MAP_FAILED;
}

void membarrier() noexcept {
  switch (kind) {
  case fence::expedited: call(MEMBARRIER_CMD_PRIVATE_EXPEDITED); break;
  case fence::global: call(MEMBARRIER_CMD_GLOBAL); break;
  case fence::mprotect: shoot_down(); break;
  }
}

} // namespace grt
