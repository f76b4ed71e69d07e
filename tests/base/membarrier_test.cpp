// tests/base/membarrier_test.cpp - each kind of membarrier is a fence on the threads that run. A kind is chosen once in
// a process, so each case is a forked child; a seccomp filter takes the better kinds away from it.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <thread>
#include <vector>

#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <grt/grt.hpp>

#include "base/futex.hpp"
#include "tests/support/slow.hpp"

#ifndef GRT_TEST_SLOW // ThreadSanitizer allows no threads in a forked child; an emulator ignores the filter
namespace {
using testing::ExitedWithCode;

enum class left { everything, global, nothing };

/// From here on membarrier(2) of this process fails with ENOSYS, except for what is left.
bool take_away(left what) {
  if (what == left::everything) return true;
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, what == left::global ? unsigned{MEMBARRIER_CMD_QUERY} : ~0u, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, what == left::global ? unsigned{MEMBARRIER_CMD_GLOBAL} : ~0u, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog p{sizeof program / sizeof *program, program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) == 0;
}
[[noreturn]] void finish(bool good) { std::_Exit(good ? 0 : 9); }

// Of two that each store and then load what the other stores, one must see the other. One of them has only a compiler
// barrier in between; the other's membarrier is the fence of both.
// The slow side never waits, so that a loaded machine costs no time; the fast one follows it from round to round.
bool one_sees(int rounds) {
  struct round {
    std::atomic<int> x{0}, y{0};
    int fast_saw = -1, slow_saw = -1;
  };
  std::vector<round> all(static_cast<std::size_t>(rounds));
  std::atomic<std::size_t> at{0};
  std::thread fast([&] {
    for (std::size_t i; (i = at.load(std::memory_order_acquire)) < all.size();) {
      round& r = all[i];
      if (r.fast_saw >= 0) continue;
      r.x.store(1, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      r.fast_saw = r.y.load(std::memory_order_relaxed);
    }
  });
  for (round& r : all) {
    r.y.store(1, std::memory_order_relaxed);
    grt::membarrier();
    r.slow_saw = r.x.load(std::memory_order_relaxed);
    at.fetch_add(1, std::memory_order_release);
  }
  fast.join();
  return std::none_of(all.begin(), all.end(), [](const round& r) { return r.fast_saw == 0 && r.slow_saw == 0; });
}

// The runtime on such a machine: thieves fence its owners, sleepers its producers.
bool runtime_works() {
  grt::set_procs(4);
  std::atomic<int> sum{0};
  grt::run([&] {
    grt::wait_group w;
    grt::chan<int> c(2);
    for (int i = 0; i < 200; i++)
      w.go([&, i] {
        grt::yield();
        i % 2 ? c.send(i) : (void)(sum += *c.recv());
      });
    w.wait();
  });
  return sum == 100 * 100;
}

class Membarrier : public testing::TestWithParam<left> {};
TEST_P(Membarrier, IsAFence_AndTheRuntimeWorksWithIt) {
  EXPECT_EXIT(
      {
        left what = GetParam();
        if (what != left::everything && !take_away(what)) std::_Exit(5); // no filters here
        if (!grt::membarrier_start()) std::_Exit(6);
        // A global one waits for a grace period of the kernel: some ms.
        finish(one_sees(what == left::global ? 20 : 5000) && (what == left::global || runtime_works()));
      },
      [](int status) { return ExitedWithCode(0)(status) || ExitedWithCode(5)(status); }, "^$");
}
INSTANTIATE_TEST_SUITE_P(Kinds, Membarrier, testing::Values(left::everything, left::global, left::nothing),
                         [](const auto& i) {
                           return i.param == left::everything ? "Expedited"
                                  : i.param == left::global   ? "Global"
                                                              : "Mprotect";
                         });
} // namespace
#endif
