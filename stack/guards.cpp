// stack/guards.cpp - four ways to guard a window, best first.
//
//  kind      available   an access raises  extra mappings  how it is made
//  madvise   Linux 6.13  SIGSEGV           none            MADV_GUARD_INSTALL, 64 windows in one process_madvise
//  poison    Linux 6.6   SIGBUS            none            UFFDIO_POISON, on memory registered for write protection
//                                                          only: the kernel still provides missing pages itself
//  mprotect  always      SIGSEGV           two per window  PROT_NONE, within a budget of mappings: half of those that
//                                                          vm.max_map_count leaves
//  canary    always      nothing           none            a pattern in the window, checked at each park and at exit
//
// A system call that gets an address in a guard of the first three kinds returns EFAULT. can_guard() finds out what the
// kernel can do by the effect, not by the result of a call: qemu-user returns 0 for any advice and does nothing. It
// tests for EFAULT with a system call that needs no descriptor, because there may be none left.
//
// If a kind fails later, all windows made from then on get another kind: mprotect, and after that canary. Existing
// guards stay as they are. MADV_DONTNEED turns a poisoned page into an ordinary one, so the pages of a guard are never
// given back to the kernel.
#include "stack/guards.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.hpp"
#include "base/san.hpp"

namespace grt::stack {
namespace {
constexpr int madv_guard_install = 102, madv_guard_remove = 103; // Linux 6.13; not in older headers
constexpr std::size_t page = 4096;
std::atomic<guard_kind> kind{guard_kind::canary};
long budget = -1;
int pidfd = -1, uffd = -1;

// From include/uapi/linux/userfaultfd.h. Older headers lack parts of it.
struct uffdio_api_t {
  std::uint64_t api, features, ioctls;
};
struct uffdio_register_t {
  std::uint64_t start, len, mode, ioctls;
};
struct uffdio_poison_t {
  std::uint64_t start, len, mode;
  std::int64_t updated;
};
constexpr unsigned long uffdio_api = _IOWR(0xAA, 0x3F, uffdio_api_t),
                        uffdio_register = _IOWR(0xAA, 0x00, uffdio_register_t),
                        uffdio_poison = _IOWR(0xAA, 0x08, uffdio_poison_t);
constexpr std::uint64_t register_wp = 2;
constexpr int user_mode_only = 1; // without it, userfaultfd needs a privilege

bool refuses_access(char* p) { return syscall(SYS_clock_gettime, 1, p) < 0 && errno == EFAULT; }

int uffd_open() noexcept {
  int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | user_mode_only));
  if (fd < 0) return -1;
  uffdio_api_t a{0xAA, 0, 0};
  if (ioctl(fd, uffdio_api, &a) == 0) return fd;
  close(fd);
  return -1;
}
bool uffd_adopt(int fd, char* p, std::size_t bytes) noexcept {
  uffdio_register_t r{reinterpret_cast<std::uint64_t>(p), bytes, register_wp, 0};
  return ioctl(fd, uffdio_register, &r) == 0;
}
bool uffd_poison(int fd, char* p, std::size_t bytes) noexcept {
  uffdio_poison_t r{reinterpret_cast<std::uint64_t>(p), bytes, 0, 0};
  return ioctl(fd, uffdio_poison, &r) == 0;
}

long read_budget() noexcept {
  long most = 65530, used = 0;
  if (FILE* f = std::fopen("/proc/sys/vm/max_map_count", "r")) {
    if (std::fscanf(f, "%ld", &most) != 1) most = 65530;
    std::fclose(f);
  }
  if (FILE* f = std::fopen("/proc/self/maps", "r")) {
    for (int c; (c = std::getc(f)) != EOF;) used += c == '\n';
    std::fclose(f);
  }
  return std::max((most - used) / 2 - 4096, 0L);
}

void warn_canary(const char* what) noexcept {
  static bool warned = false;
  if (!std::exchange(warned, true)) text_out(2).str("grt: warning: no guard pages").str(what);
}
void warn_no_mappings() noexcept {
  warn_canary(" for further stacks: this kernel has no MADV_GUARD_INSTALL (Linux 6.13) and vm.max_map_count leaves no "
              "mappings; overflows are found at the next park. Raise it: sysctl vm.max_map_count=2097152\n");
}

// Arenas' lock held. The kind `from` has failed: selects the kind for all windows to come, and returns it.
guard_kind next_kind(guard_kind from) noexcept {
  guard_kind k = from == guard_kind::mprotect ? guard_kind::canary : guard_kind::mprotect;
  if (k == guard_kind::canary) warn_no_mappings();
  else if (budget < 0) budget = read_budget();
  kind.store(k, std::memory_order_relaxed);
  return k;
}
} // namespace

int guard_named(const char* name) noexcept {
  for (int i = 0; i < 4; i++)
    if (!std::strcmp(name, guard_names[i])) return i;
  return -1;
}

guard_kind guards() noexcept { return kind.load(std::memory_order_relaxed); }

bool can_guard(guard_kind k) noexcept {
  if (k >= guard_kind::mprotect) return true;
  // LeakSanitizer reads every root region that /proc/self/maps lists as readable. Guards of these two kinds do not show
  // there, so it would read them and die.
  if (GRT_ASAN) return false;
  void* p = mmap(nullptr, 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  char* at = static_cast<char*>(p);
  munlock(at, 2 * page); // as when windows are opened: under MCL_FUTURE, mprotect would fill the pages at once
  bool works = mprotect(at, 2 * page, PROT_READ | PROT_WRITE) == 0;
  if (k == guard_kind::madvise) {
    works = works && madvise(at, page, madv_guard_install) == 0 && refuses_access(at);
  } else {
    int fd = uffd_open();
    works = works && fd >= 0 && uffd_adopt(fd, at, 2 * page) && uffd_poison(fd, at, page) && refuses_access(at) &&
            !refuses_access(at + page);
    if (fd >= 0) close(fd);
  }
  munmap(p, 2 * page);
  return works;
}

void guards_start(int forced, long mappings, int self) noexcept {
  pidfd = self;
  guard_kind k = static_cast<guard_kind>(std::max(forced, 0));
  if (forced < 0)
    while (!can_guard(k)) k = static_cast<guard_kind>(static_cast<int>(k) + 1);
  if (k == guard_kind::poison && (uffd = uffd_open()) < 0) k = guard_kind::mprotect;
  budget = mappings >= 0 ? mappings : k == guard_kind::mprotect ? read_budget() : -1;
  kind.store(k, std::memory_order_relaxed);
}

void guards_adopt(char* p, std::size_t bytes) noexcept {
  if (guards() == guard_kind::poison && !uffd_adopt(uffd, p, bytes)) next_kind(guard_kind::poison);
}

std::size_t guards_make(char* p, std::size_t stride, std::size_t n) noexcept {
  std::size_t done = 0;
  guard_kind k = guards();
  if (k == guard_kind::madvise) {
    iovec v[64];
    for (std::size_t i = 0; i < n; i++) v[i] = {p + i * stride, guard_bytes};
    ssize_t bytes = pidfd < 0 ? -1 : syscall(SYS_process_madvise, pidfd, v, n, madv_guard_install, 0);
    if (bytes > 0) done = static_cast<std::size_t>(bytes) / guard_bytes;
    while (done < n && madvise(v[done].iov_base, guard_bytes, madv_guard_install) == 0) done++;
    if (done < n) k = next_kind(k); // EINVAL, for instance: the program has locked the memory
  } else if (k == guard_kind::poison) {
    while (done < n && uffd_poison(uffd, p + done * stride, guard_bytes)) done++;
    if (done < n) k = next_kind(k);
  }
  if (k == guard_kind::mprotect) {
    for (; done < n && budget > 1 && mprotect(p + done * stride, guard_bytes, PROT_NONE) == 0; done++) budget -= 2;
    if (done < n) next_kind(k); // canary, for all windows to come
  }
  if (done < n) warn_canary(": GRT_GUARD=canary; overflows are found at the next park\n"); // unless already warned
  return done;
}

void guards_remove(char* p, std::size_t bytes) noexcept { madvise(p, bytes, madv_guard_remove); }

} // namespace grt::stack
