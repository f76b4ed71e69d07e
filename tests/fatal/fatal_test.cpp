// Every way the runtime ends a program, judged by exit status and stderr. Each case is a forked child: this process
// never starts the runtime.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <thread>

#include <sys/mman.h>
#include <sys/resource.h>

#include <grt/grt.hpp>

#include "tests/support/slow.hpp"

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
  EXPECT_EXIT(run([] {
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
              ExitedWithCode(2),
              "grt: fatal: all goroutines are asleep - deadlock!.*\\[mutex\\] on 0x.* created at "
              ".*fatal_test.cpp:[0-9]+.*\"collector\" "
              "\\[chan receive\\] on 0x.*\\[wait group\\] on 0x.*\\[select\\].*\\[nil chan\\]");
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

// No false alarm: each of these could still be woken. 400 ms is four times the rule's patience.
TEST(FatalDeadlock, NotWhileAForeignThreadMaySend) {
  EXPECT_EXIT(
      {
        chan<int> c;
        std::thread t([=] {
          std::this_thread::sleep_for(400ms);
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
        run([] {
          chan<int> c;
          timer t = after_func(400ms, [=] { c.send(1); });
          c.recv();
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}

TEST(FatalException, ReportsGoroutineNameTypeTextStackAndBirth) {
  EXPECT_EXIT(run([] {
                go(attr{.name = "worker"}, [] { throw std::runtime_error("boom"); });
                sleep_for(10s);
              }),
              KilledBySignal(SIGABRT),
              "grt: fatal: goroutine [0-9]+ \\[worker\\]: uncaught std::runtime_error: boom\n    0x.*created at "
              ".*fatal_test.cpp:[0-9]+");
}
TEST(FatalException, OfAnyType) {
  EXPECT_EXIT(run([] {
                go([] { throw 42; });
                sleep_for(10s);
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
                sleep_for(5ms);
                w.reset();
              }),
              KilledBySignal(SIGABRT), "grt: fatal: a grt::wait_group is destroyed while it is waited on");
}

#ifndef GRT_TEST_SANITIZED // they have their own handlers, and guards of their own
TEST(FatalStack, OverflowNamesGoroutineLimitAndTheWayOut) {
  EXPECT_EXIT(run([] {
                go(attr{.name = "deep"}, [] { recurse(0); });
                sleep_for(10s);
              }),
              KilledBySignal(SIGABRT),
              "grt: fatal: goroutine [0-9]+ \\[deep\\]: stack overflow: more than 262144 bytes.*GRT_STACK_MAX=512K");
}
TEST(FatalStack, OverflowOfASizedStack) {
  EXPECT_EXIT(run([] {
                go(attr{.stack_max = 64 << 10}, [] { recurse(0); });
                sleep_for(10s);
              }),
              KilledBySignal(SIGABRT), "stack overflow: more than 65536 bytes");
}
TEST(FatalStack, OverflowUnderMprotectGuards) {
  EXPECT_EXIT((setenv("GRT_GUARD", "mprotect", 1), run([] { recurse(0); })), KilledBySignal(SIGABRT),
              "stack overflow: more than 262144");
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

TEST(FatalMemory, GoThrows_NothingIsLost_AndItGoesOn) {
  EXPECT_EXIT(
      {
        run([] {
          rlimit most;
          most.rlim_cur = 768 << 20;
          most.rlim_max = RLIM_INFINITY;
          setrlimit(RLIMIT_DATA, &most); // some 2,000 windows
          chan<void> gate;
          wait_group gone;
          long made = 0;
          bool refused = false;
          for (int round = 0; round < 2; round++) {
            chan<void> g;
            try {
              for (; made < 1000000; made++) gone.go([=] { g.recv(); });
            } catch (const std::system_error& e) {
              refused = e.code() == std::errc::not_enough_memory;
            }
            if (!refused || made < 100) std::_Exit(3);
            g.close();
            gone.wait();
            made = 100;
          }
          for (int i = 0; i < 5000 && goroutines() > 1; i++) sleep_for(1ms);
          std::_Exit(goroutines() == 1 ? 0 : 4);
        });
      },
      ExitedWithCode(0), "");
}
TEST(FatalMemory, RunsUnderUlimitV) {
  EXPECT_EXIT(
      {
        rlimit most;
        most.rlim_cur = 1 << 30;
        most.rlim_max = RLIM_INFINITY;
        setrlimit(RLIMIT_AS, &most);
        run([] {
          wait_group w;
          for (int i = 0; i < 100; i++) w.go([] { yield(); });
          w.wait();
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
// What processors put by for themselves must not use up a short address space.
TEST(FatalMemory, ManyProcessorsUnderUlimitV) {
  EXPECT_EXIT(
      {
        rlimit most;
        most.rlim_cur = rlim_t{6} << 30;
        most.rlim_max = RLIM_INFINITY;
        setrlimit(RLIMIT_AS, &most);
        set_procs(48);
        run([] {
          for (int round = 0; round < 50; round++) {
            wait_group w;
            for (int i = 0; i < 200; i++) w.go([] { yield(); });
            w.wait();
          }
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}

TEST(FatalMemory, RunsUnderMlockall_WithoutLockingTheArena) {
  EXPECT_EXIT(
      {
        if (mlockall(MCL_CURRENT | MCL_FUTURE)) std::exit(0); // not permitted here
        run([] {
          wait_group w;
          for (int i = 0; i < 100; i++) w.go([] { yield(); });
          w.wait();
        });
        rusage u;
        getrusage(RUSAGE_SELF, &u);
        std::exit(u.ru_maxrss > 400 << 10 ? 5 : 0);
      },
      ExitedWithCode(0), "");
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
