// Every way the runtime ends a program, judged by exit status and stderr. Each case is a forked child: this process
// never starts the runtime.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include <sys/wait.h>

#include <grt/grt.hpp>

#include "sched/monitor/pace.hpp"
#include "tests/support/slow.hpp"
#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;
using testing::KilledBySignal;

GRT_DETAIL_NOINLINE int recurse(int n) {
  volatile char frame[2048];
  frame[0] = static_cast<char>(n);
  return n < 1000000 ? recurse(n + 1) + frame[0] : 0;
}

// qemu-user keeps a thread of its own among ours, and a thread nobody knows may yet send: no deadlock is reported
// there.
#ifndef GRT_TEST_EMULATED
TEST(FatalDeadlock, NamesEachWaiterAndWhatItWaitsFor) {
  for (const char* waiter :
       {"\\[mutex\\] on 0x.* created at .*fatal_test.cpp:[0-9]+", "\"collector\" \\[chan receive\\] on 0x",
        "\\[wait group\\] on 0x", "\\[select\\]", "\\[nil chan\\]"}) // in no order: a slot is any processor's
    EXPECT_EXIT(run([] {
                  pace.deadlock_ns = 20'000'000;
                  chan<int> c;
                  mutex m;
                  wait_group w;
                  w.add(1);
                  go(attr{.name = "collector"}, [=] { c.recv(); });
                  go([&] { w.wait(); });
                  go([=] { select(on_recv(c), on_recv(c)); });
                  go([] { chan<int>(nil).send(1); });
                  m.lock();
                  m.lock();
                }),
                ExitedWithCode(2), "grt: fatal: all goroutines are asleep - deadlock!.*" + std::string(waiter));
}

TEST(FatalDeadlock, OfTheMainThreadAlone) {
  EXPECT_EXIT(chan<int>().recv(), ExitedWithCode(2), "all goroutines are asleep.*thread [0-9]+ \\[chan receive\\]");
}

TEST(FatalDeadlock, WithAPinnedGoroutine) {
  EXPECT_EXIT(run([] {
                this_goroutine::pin();
                chan<int>().recv();
              }),
              ExitedWithCode(2), "all goroutines are asleep");
}
#endif

// No false alarm: each of these could still be woken. 80 ms is four times the patience that is set here.
TEST(FatalDeadlock, NotWhileAForeignThreadMaySend) {
  EXPECT_EXIT(
      {
        pace.deadlock_ns = 20'000'000;
        chan<int> c;
        std::thread t([=] {
          std::this_thread::sleep_for(80ms);
          c.send(1);
        });
        run([=] { c.recv(); });
        t.join();
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(FatalDeadlock, NotWhileATimerIsSet) {
  EXPECT_EXIT(
      {
        pace.deadlock_ns = 20'000'000;
        run([] {
          chan<int> c;
          timer t = after_func(80ms, [=] { c.send(1); });
          c.recv();
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}

TEST(FatalException, ReportsGoroutineNameTypeTextStackAndBirth) {
  EXPECT_EXIT(run([] {
                go(attr{.name = "worker"}, [] { throw std::runtime_error("boom"); });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT),
              "grt: fatal: goroutine [0-9]+ \\[worker\\]: uncaught std::runtime_error: boom\n    0x.*created at "
              ".*fatal_test.cpp:[0-9]+");
}
TEST(FatalException, OfAnyType) {
  EXPECT_EXIT(run([] {
                go([] { throw 42; });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT), "goroutine [0-9]+: uncaught int\n");
}

TEST(FatalMutex, UnlockOfUnlocked) {
  EXPECT_EXIT(mutex().unlock(), KilledBySignal(SIGABRT), "grt: fatal: unlock of an unlocked grt::mutex");
}
TEST(FatalMutex, DestroyLocked) {
  EXPECT_EXIT(
      {
        mutex m;
        m.lock();
      },
      KilledBySignal(SIGABRT), "grt: fatal: a locked grt::mutex is destroyed");
}
TEST(FatalWaitGroup, DestroyWaited) {
  EXPECT_EXIT(run([] {
                auto w = std::make_unique<wait_group>();
                w->add(1);
                go([&] { w->wait(); });
                await_waiting(1, "wait group");
                w.reset();
              }),
              KilledBySignal(SIGABRT), "grt: fatal: a grt::wait_group is destroyed while it is waited on");
}

#ifndef GRT_TEST_SANITIZED // they have their own handlers, and guards of their own
bool unguarded() {         // GRT_GUARD=canary: an overflow runs on into the neighbour's window
  const char* s = std::getenv("GRT_GUARD");
  return s && std::string_view(s) == "canary";
}
#define SKIP_UNGUARDED()                                                                                               \
  if (unguarded()) GTEST_SKIP() << "no guard"

TEST(FatalStack, OverflowNamesGoroutineLimitBirthStackAndTheWayOut) {
  SKIP_UNGUARDED();
  EXPECT_EXIT(run([] {
                go(attr{.name = "deep"}, [] { recurse(0); });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT),
              "grt: fatal: goroutine [0-9]+ \\[deep\\]: stack overflow: more than 262144 bytes used \\(fault at "
              "0x[0-9a-f]+\\)\n  created at .*fatal_test.cpp:[0-9]+\n  raise it with grt::attr::stack_max or "
              "GRT_STACK_MAX=512K\n    0x");
}
TEST(FatalStack, OverflowOfASizedStack) {
  SKIP_UNGUARDED();
  EXPECT_EXIT(run([] {
                go(attr{.stack_max = 64 << 10}, [] { recurse(0); });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT), "stack overflow: more than 65536 bytes");
}
TEST(FatalStack, OverflowUnderEachGuard) { // one this kernel lacks says so instead, and ends with 2
  for (const char* guard : {"madvise", "poison", "mprotect"})
    EXPECT_EXIT(
        (setenv("GRT_GUARD", guard, 1), run([guard] {
           if (std::string_view(debug::guards()) != guard) std::_Exit(4);
           recurse(0);
         })),
        [](int status) { return KilledBySignal(SIGABRT)(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 2); },
        "^grt: fatal: goroutine [0-9]+: stack overflow: more than 262144|"
        "^grt: GRT_GUARD=(madvise|poison) is not valid: this kernel or this build cannot; [^\n]*\n$")
        << guard;
}
// Probed page by page on the way to its far end, so that the guard is met before the neighbour is.
GRT_DETAIL_NOINLINE void one_frame_of(std::size_t bytes) {
  auto* far = static_cast<volatile char*>(__builtin_alloca(bytes));
  *far = 1;
}
TEST(FatalStack, OverflowByOneHugeFrame) {
  SKIP_UNGUARDED();
  EXPECT_EXIT(run([] {
                go(attr{.name = "huge", .stack_max = 64 << 10}, [] { one_frame_of(200 << 10); });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT), "\\[huge\\]: stack overflow: more than 65536 bytes");
}
int deeper(const void*, const void*) {
  int two[2] = {2, 1};
  volatile char frame[512];
  frame[0] = 1;
  std::qsort(two, 2, sizeof two[0], deeper);
  return frame[0];
}
TEST(FatalStack, OverflowThroughALibrary) {
  SKIP_UNGUARDED();
  EXPECT_EXIT(run([] {
                go(attr{.name = "sorts"}, [] { deeper(nullptr, nullptr); });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT), "\\[sorts\\]: stack overflow: more than 262144 bytes");
}
GRT_DETAIL_NOINLINE int print_at(const char* low, std::size_t left) { // printf when no more than that is left
  volatile char frame[256];
  frame[0] = 1;
  if (static_cast<std::size_t>(const_cast<char*>(frame) - low) > left) return print_at(low, left) + frame[0];
  char out[64];
  return std::snprintf(out, sizeof out, "%s %.20Lg", "text", 3.0L);
}
TEST(FatalStack, OverflowInsideALibrary) {
  SKIP_UNGUARDED();
  EXPECT_EXIT(run([] {
                go(attr{.name = "prints"},
                   [] { print_at(static_cast<const char*>(this_goroutine::stack().low), 600); });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT), "\\[prints\\]: stack overflow: more than 262144 bytes");
}
GRT_DETAIL_NOINLINE int down_to(const char* low) {
  volatile char frame[1024];
  frame[0] = 1;
  return const_cast<char*>(frame) - low > 4096 ? down_to(low) + frame[0] : 0;
}
TEST(StackClasses, NearlyAllOfEachCanBeUsed) {
  EXPECT_EXIT(
      {
        run([] {
          for (int round = 0; round < 2; round++)
            for (std::size_t n = 64 << 10; n <= 8 << 20; n *= 2) {
              wait_group w;
              for (int i = 0; i < 5; i++)
                w.go(attr{.stack_max = n}, [n] {
                  auto b = this_goroutine::stack();
                  if (static_cast<std::size_t>(static_cast<char*>(b.high) - static_cast<char*>(b.low)) < n)
                    std::_Exit(3);
                  down_to(static_cast<const char*>(b.low));
                  yield();
                  down_to(static_cast<const char*>(b.low));
                });
              w.wait();
            }
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(FatalStack, CanaryFoundAtThePark) {
  EXPECT_EXIT((setenv("GRT_GUARD", "canary", 1), run([] {
                 auto b = this_goroutine::stack();
                 for (char* p = static_cast<char*>(b.low); p < static_cast<char*>(b.low) + 64; p++)
                   *p = 1; // as an overflow would
                 sleep_for(1ms);
               })),
              KilledBySignal(SIGABRT), "warning: no guard pages.*stack overflow found by its canary");
}
TEST(FatalStack, AnyOtherFaultDiesAsEver) {
  EXPECT_EXIT(run([] { *static_cast<volatile int*>(nullptr) = 1; }), KilledBySignal(SIGSEGV), "");
}
TEST(FatalStack, AnEarlierHandlerStillGetsItsFaults) {
  EXPECT_EXIT(
      {
        std::signal(SIGSEGV, [](int) { _exit(7); });
        run([] { *static_cast<volatile int*>(nullptr) = 1; });
      },
      ExitedWithCode(7), "");
}
#endif

TEST(FatalSetting, NamesTheValueAndTheValidOnes_AndExitsWith2) {
  EXPECT_EXIT((setenv("GRT_PROCS", "0", 1), run([] {})), ExitedWithCode(2),
              "^grt: GRT_PROCS=0 is not valid: a number from 1 to 1024\n$");
  EXPECT_EXIT((setenv("GRT_PROCS", "2x", 1), run([] {})), ExitedWithCode(2), "^grt: GRT_PROCS=2x is not valid");
  EXPECT_EXIT((setenv("GRT_STACK_MAX", "1", 1), run([] {})), ExitedWithCode(2),
              "^grt: GRT_STACK_MAX=1 is not valid: a size from 64K to 8M\n$");
  EXPECT_EXIT((setenv("GRT_GUARD", "maybe", 1), run([] {})), ExitedWithCode(2),
              "^grt: GRT_GUARD=maybe is not valid: .*canary\n$");
}
TEST(FatalSetting, GoodOnesCount) {
  EXPECT_EXIT((setenv("GRT_PROCS", "3", 1), setenv("GRT_STACK_MAX", "1M", 1), run([] {
                 auto b = this_goroutine::stack();
                 std::_Exit(procs() == 3 && static_cast<char*>(b.high) - static_cast<char*>(b.low) >= 1 << 20 ? 0 : 6);
               })),
              ExitedWithCode(0), "");
}

TEST(ProcessExit, WithGoroutinesRunningAndParked) {
  EXPECT_EXIT(
      {
        std::atomic<bool> running{false};
        go([] { chan<int>().recv(); });
        go([&] {
          running = true;
          for (;;) yield();
        });
        while (!running) std::this_thread::yield();
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(ProcessExit, FromAGoroutine) {
  EXPECT_EXIT(run([] {
                for (int i = 0; i < 10; i++)
                  go([] {
                    for (;;) yield();
                  });
                yield();
                std::exit(3);
              }),
              ExitedWithCode(3), "");
}
} // namespace
