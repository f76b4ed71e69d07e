// What the runtime's monitor tells and follows, in processes of their own.
#include <cstdlib>
#include <ctime>
#include <dirent.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <grt/grt.hpp>

#include "sched/monitor/pace.hpp"
#include "tests/support/said.hpp"

namespace {
using namespace std::chrono_literals;
using testing::ExitedWithCode;

void kernel_sleep(long ms) {
  timespec t{ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t)) {
  }
}
[[gnu::noinline]] void spins_for_long(std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) {
  }
}

// Two that compute while others wait (and lose their P), from one place; one in the kernel; one that says so. Others
// may be told of as well, where the machine does not run their threads.
void stalls() {
  said so_far;
  grt::set_procs(1);
  std::atomic<bool> stop{false};
  grt::wait_group w;
  for (int round = 0; round < 2; round++) {
    w.go(grt::attr{.name = "spinner"}, [&] { spins_for_long(stop); });
    for (int i = 0; i < 20; i++) grt::run([] { grt::sleep_for(5ms); });
    so_far.await("[spinner]");
    stop = true;
    w.wait();
    stop = false;
  }
  auto since = std::chrono::steady_clock::now();
  std::atomic<std::chrono::steady_clock::duration> late{};
  grt::run(grt::attr{.name = "announced"}, [&] {
    grt::blocking([&] {
      late = std::chrono::steady_clock::now() - since;
      kernel_sleep(100);
    });
  });
  bool told = so_far.count("[announced]") && late.load() < 30ms;
  grt::run(grt::attr{.name = "sleeper"}, [&] {
    while (!so_far.count("[sleeper]")) kernel_sleep(10);
  });
  so_far.show();
  std::exit(told || so_far.count("[spinner]") != 1 || so_far.count("[sleeper]") != 1 ? 4 : 3);
}
TEST(Stall, IsReportedOncePerPlace_WithItsStack) {
  EXPECT_EXIT(
      {
        setenv("GRT_DEBUG", "stall=30ms", 1);
        stalls();
      },
      ExitedWithCode(3),
      "grt: stall: goroutine [0-9]+ .spinner. has held its thread for [0-9]+ ms, created at "
      "[^\n]*watch_test.cpp:[0-9]+\n    0x.*grt: stall: goroutine [0-9]+ .sleeper. has held its thread for [0-9]+ "
      "ms[^\n]*\n    0x");
}

void allow(const cpu_set_t& set) {
  DIR* d = opendir("/proc/self/task");
  while (dirent* e = readdir(d))
    if (int tid = std::atoi(e->d_name)) sched_setaffinity(tid, sizeof set, &set);
  closedir(d);
}

TEST(Procs, FollowTheAffinity_UntilSomebodySaysANumber) {
  cpu_set_t all, one;
  CPU_ZERO(&one);
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  if (CPU_COUNT(&all) < 2) GTEST_SKIP() << "one CPU";
  for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
    if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
  EXPECT_EXIT(
      {
        unsetenv("GRT_PROCS");
        grt::pace.pass_ns = 20'000'000;
        unsigned n = grt::procs();
        if (n < 2) std::exit(1);
        std::atomic<bool> stop{false};
        std::thread works([&] {
          while (!stop) grt::run([] { grt::sleep_for(1ms); });
        });
        allow(one);
        while (grt::procs() != 1) kernel_sleep(10); // the test's time limit ends this
        allow(all);
        while (grt::procs() != n) kernel_sleep(10);
        grt::set_procs(n + 1);
        allow(one);
        kernel_sleep(200); // some looks
        stop = true;
        works.join();
        std::exit(grt::procs() == n + 1 ? 4 : 5);
      },
      ExitedWithCode(4), "");
}

TEST(Threads, OneTooMany_EndsTheProgramWithAList) {
  EXPECT_EXIT(
      {
        setenv("GRT_MAX_THREADS", "8", 1);
        grt::set_procs(1);
        for (int i = 0; i < 20; i++) grt::go(grt::attr{.name = "blocked"}, [] { kernel_sleep(60000); });
        grt::run([] {
          for (;;) grt::sleep_for(1ms);
        });
      },
      testing::KilledBySignal(SIGABRT),
      "grt: fatal: 8 threads, the most that GRT_MAX_THREADS allows.*goroutine [0-9]+ .blocked. in system call [0-9]+, "
      "created at ");
}
} // namespace
