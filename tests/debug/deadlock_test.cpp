// The deadlock report and its rule: when it must come, and when it must not. Each case is a child, which
// executes this program again and starts a runtime of its own. ThreadSanitizer and qemu-user keep a thread of their own
// among ours, and a thread nobody knows may yet send: there is no report to be tested.
#include "tests/debug/dump_text.hpp"
#include "tests/support/slow.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <grt/grt.hpp>

#include "sched/monitor/pace.hpp"
#include "tests/support/poller.hpp"

extern "C" {
GRT_DETAIL_NOINLINE int stuck_here(const grt::chan<int>& c) { return c.recv().value_or(1) + 1; }
}

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;

struct NoDeadlock : OwnProcess<> {};

#if !defined(GRT_TEST_EMULATED) && !GRT_DETAIL_TSAN
const char* const found = "grt: fatal: all goroutines are asleep - deadlock!";

// A deadlock of 20 goroutines that have run on all processors, after the processors went from `from` to `to`.
[[noreturn]] void stick(unsigned from, unsigned to) {
  setenv("GRT_PROCS", std::to_string(from).c_str(), 1);
  pace.deadlock_ns = 20'000'000; // the reports below come at the runtime's own pace
  run([&] {
    wait_group w;
    for (int i = 0; i < 200; i++)
      w.go([] {
        for (int k = 0; k < 20; k++) yield();
      });
    w.wait();
    set_procs(to);
    chan<int> c;
    for (int i = 0; i < 20; i++) go([=] { c.recv(); });
    c.recv();
  });
  std::_Exit(7);
}
struct Deadlock : OwnProcess<testing::TestWithParam<unsigned>> {};
TEST_P(Deadlock, IsFound) { EXPECT_EXIT(stick(GetParam(), GetParam()), ExitedWithCode(2), found); }
TEST_P(Deadlock, IsFoundWithFewerProcessorsThanOnce) { EXPECT_EXIT(stick(GetParam(), 1), ExitedWithCode(2), found); }
TEST_P(Deadlock, IsFoundWithMoreProcessorsThanOnce) {
  EXPECT_EXIT(stick(GetParam(), GetParam() + 3), ExitedWithCode(2), found);
}
INSTANTIATE_TEST_SUITE_P(Procs, Deadlock, testing::Values(1, 2, 8, 64));

[[noreturn]] void waits_for_an_event() {
  setenv("GRT_PROCS", "2", 1);
  pace.deadlock_ns = 20'000'000;
  use_room();
  static std::atomic<int> ticks{0};
  std::signal(SIGALRM, [](int) {
    room_interrupt();
    if (++ticks == 10) std::_Exit(5);
  });
  itimerval every{{0, 30'000}, {0, 30'000}};
  setitimer(ITIMER_REAL, &every, nullptr);
  run(await_fire);
  std::_Exit(7);
}
// An armed poller may bring an event yet, also when its wait returns again and again without one.
TEST_F(NoDeadlock, WhileThePollerIsArmed) { EXPECT_EXIT(waits_for_an_event(), ExitedWithCode(5), "^$"); }

struct DeadlockReport : NoDeadlock {};
TEST_F(DeadlockReport, HasTheWaitersWithStackObjectAndBirth) {
  EXPECT_EXIT(
      run([] {
        chan<int> c;
        go(attr{.name = "worker"}, [=] { stuck_here(c); });
        c.recv();
      }),
      ExitedWithCode(2),
      "goroutine [0-9]+ \"worker\" .chan receive. on 0x[0-9a-f]+ for [0-9]+ ms\n.*  stuck_here.0x.*  created at "
      ".*deadlock_test.cpp:[0-9]+\n");
}
TEST_F(DeadlockReport, HasTheStackOfAThreadThatWaits) {
  EXPECT_EXIT(stuck_here(chan<int>()), ExitedWithCode(2), "thread [0-9]+ .chan receive.*  stuck_here.0x");
}
TEST_F(DeadlockReport, OfManyThreads) {
  EXPECT_EXIT(
      {
        chan<int> c;
        std::vector<std::thread> all;
        for (int i = 0; i < 300; i++) all.emplace_back([=] { c.recv(); });
        for (auto& t : all) t.detach();
        c.recv();
      },
      ExitedWithCode(2), found);
}
TEST_F(DeadlockReport, WithPinnedGoroutines_SomeOfThemGone) {
  EXPECT_EXIT(run([] {
                wait_group w;
                for (int i = 0; i < 4; i++)
                  w.go([i] {
                    this_goroutine::pin();
                    if (i & 1) this_goroutine::unpin(); // its thread stays as a spare; the others end
                  });
                w.wait();
                go(attr{.pinned = true}, [] { chan<int>().recv(); });
                this_goroutine::pin();
                chan<int>().recv();
              }),
              ExitedWithCode(2), found);
}
#endif

// No false alarm. Each waits for four times the rule's patience for something that does come.
constexpr auto patience = 20ms, long_enough = 4 * patience;
template <class F> void expect_none(F f) {
  EXPECT_EXIT(
      {
        pace.deadlock_ns = std::chrono::nanoseconds(patience).count();
        f();
        std::exit(0);
      },
      ExitedWithCode(0), "^$");
}
void wait_in_the_kernel() {
  int fd = eventfd(0, 0);
  if (!fork()) { // who writes is no thread of ours
    usleep(std::chrono::microseconds(long_enough).count());
    std::uint64_t one = 1;
    _exit(write(fd, &one, 8) != 8);
  }
  std::uint64_t n;
  if (read(fd, &n, 8) != 8) std::_Exit(9);
}

TEST_F(NoDeadlock, WhileAForeignThreadWillSend) {
  expect_none([] {
    chan<int> c;
    std::thread t([=] {
      std::this_thread::sleep_for(long_enough);
      c.send(1);
    });
    c.recv();
    t.join();
  });
}
TEST_F(NoDeadlock, WhileAThreadIsInASystemCall) {
  expect_none([] {
    chan<int> c;
    std::thread t([=] {
      wait_in_the_kernel();
      c.send(1);
    });
    run([=] { c.recv(); });
    t.join();
  });
}
TEST_F(NoDeadlock, WhileAGoroutineIsInASystemCall) {
  expect_none([] {
    run([] {
      chan<int> c;
      go([=] {
        wait_in_the_kernel();
        c.send(1);
      });
      c.recv();
    });
  });
}
TEST_F(NoDeadlock, WhileAPinnedGoroutineIsInASystemCall) {
  expect_none([] {
    run([] {
      chan<int> c;
      go(attr{.pinned = true}, [=] {
        wait_in_the_kernel();
        c.send(1);
      });
      c.recv();
    });
  });
}
TEST_F(NoDeadlock, WhileAGoroutineSleeps) {
  expect_none([] {
    run([] {
      chan<int> c;
      go([=] {
        sleep_for(long_enough);
        c.send(1);
      });
      c.recv();
    });
  });
}
TEST_F(NoDeadlock, WhileATimerIsSet) {
  expect_none([] {
    chan<int> c;
    timer t = after_func(long_enough, [=] { c.send(1); });
    c.recv();
  });
}
TEST_F(NoDeadlock, WhileAThreadWaitsWithATimeout) {
  expect_none([] {
    chan<int> c;
    std::thread t([=] {
      select(on_recv(chan<int>()), on_timeout(long_enough));
      c.send(1);
    });
    c.recv();
    t.join();
  });
}
TEST_F(NoDeadlock, WhileAGoroutineWaitsWithATimeout_OnAProcessorThatRetires) {
  expect_none([] {
    setenv("GRT_PROCS", "8", 1);
    run([] {
      chan<int> c;
      mutex m;
      m.lock();
      for (int i = 0; i < 16; i++) // spread over the processors
        go([&] {
          if (!m.try_lock_for(long_enough)) c.send(1);
        });
      sleep_for(1ms);
      set_procs(1);
      for (int i = 0; i < 16; i++) c.recv();
      m.unlock();
    });
  });
}
} // namespace
