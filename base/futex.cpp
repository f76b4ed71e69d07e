// base/futex.cpp - membarrier(2), and the substitutes for kernels that do not have it.
//
// On x86 the substitute is mprotect. When write permission is taken from a page that this process has written, the
// kernel interrupts every core that runs one of the process's threads, to invalidate TLB entries. On x86 an interrupt
// is a full fence.
//
// On AArch64 mprotect would not do: the TLB is invalidated by broadcast, without an interrupt. There the caller visits
// every core instead. A thread that ran on that core is switched out meanwhile, and a switch is a full fence (Linux,
// kernel/sched/core.c, __schedule). A thread that runs on no core has been switched out before. A core that refuses the
// visit is offline or outside the cpuset, so none of our threads runs on it.
#include "base/futex.hpp"

#include <algorithm>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "base/spin.hpp"

namespace grt {
namespace {
enum class fence : unsigned char { expedited, global, mprotect, visits };
fence kind = fence::expedited;
spin_lock page_lock;
void* page;

long call(int command) noexcept { return syscall(SYS_membarrier, command, 0, 0); }

void shoot_down() noexcept {
  spin_guard hold(page_lock);
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
  // The page must be present and dirty, otherwise there is no TLB entry to invalidate.
  __atomic_fetch_add(static_cast<int*>(page), 1, __ATOMIC_RELAXED);
  mprotect(page, 4096, PROT_READ);
}

void visit_cores() noexcept {
  static const int cores = std::min(get_nprocs_conf(), CPU_SETSIZE);
  cpu_set_t before, one;
  bool known = sched_getaffinity(0, sizeof before, &before) == 0;
  for (int i = 0; i < cores; i++) {
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(i), &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  if (known) sched_setaffinity(0, sizeof before, &before);
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
#if defined(__aarch64__)
  kind = fence::visits;
  return true;
#endif
  page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  kind = fence::mprotect;
  return page != MAP_FAILED;
}

void membarrier() noexcept {
  switch (kind) {
  case fence::expedited: call(MEMBARRIER_CMD_PRIVATE_EXPEDITED); break;
  case fence::global: call(MEMBARRIER_CMD_GLOBAL); break;
  case fence::mprotect: shoot_down(); break;
  case fence::visits: visit_cores(); break;
  }
}

} // namespace grt
