// Signals in goroutines are signals in threads. What needs a process of its own is in tests/fatal/signal_test.cpp.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <pthread.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <grt/debug.hpp>

#include "tests/support/fixture.hpp"
#include "tests/support/threads.hpp"

extern char** environ;

namespace {
using namespace grt;
using namespace std::chrono_literals;

std::atomic<int> handled, by; // lock-free; by: the thread
void on_signal(int) {
  by = static_cast<int>(gettid());
  handled++;
}

// With a handler of SIGUSR1 and SIGPROF while it lives.
struct Signals : GrtTest {
  struct sigaction before[2];
  static constexpr int used[2] = {SIGUSR1, SIGPROF};
  void SetUp() override {
    GrtTest::SetUp();
    handled = by = 0;
    struct sigaction a {};
    a.sa_handler = on_signal;
    a.sa_flags = SA_RESTART;
    for (int i = 0; i < 2; i++) sigaction(used[i], &a, &before[i]);
  }
  void TearDown() override {
    for (int i = 0; i < 2; i++) sigaction(used[i], &before[i], nullptr);
    GrtTest::TearDown();
  }
};

void expect_raise_works() {
  int n = handled;
  std::raise(SIGUSR1);
  EXPECT_EQ(handled, n + 1);
}

TEST_F(Signals, Raise_IsHandledAtOnce) {
  run([] {
    for (int i = 0; i < 10; i++) {
      expect_raise_works();
      EXPECT_EQ(by, static_cast<int>(gettid()));
      yield();
    }
    this_goroutine::pin();
    expect_raise_works();
    this_goroutine::unpin();
  });
}

// Threads that sysmon and blocking() make, and those of further processors.
TEST_F(Signals, Raise_IsHandledOnThreadsMadeLater) {
  run([] {
    unsigned procs = set_procs(1);
    std::atomic<bool> over{false};
    std::atomic<int> other{0};
    wait_group w;
    for (bool announced : {true, false}) {
      over = false;
      w.go([&] {
        other = static_cast<int>(gettid());
        expect_raise_works();
        over = true;
      });
      int own = static_cast<int>(gettid());
      auto until_over = [&] {
        while (!over) asm volatile("");
      };
      announced ? blocking(until_over) : until_over();
      w.wait();
      EXPECT_NE(other, own);
    }
    set_procs(procs + 2);
    int before = handled;
    for (int i = 0; i < 100; i++) w.go([] { std::raise(SIGUSR1); });
    w.wait();
    EXPECT_EQ(handled, before + 100);
    set_procs(procs);
  });
}

TEST_F(Signals, MasksOfAllThreads) {
  std::uint64_t own = own_mask(); // main's, which started the runtime
  run([&] { EXPECT_EQ(own_mask(), own); });
  await_masks("grt", own);
  EXPECT_GE(masks_of("grt").size(), procs());
  await_masks("grt-sysmon", all_but_faults());
  while (masks_of("grt-sysmon").size() != 1) usleep(1000); // a thread that sysmon has made bears its name at first
}

TEST_F(Signals, AMaskSetWhilePinned_Stays) {
  run([] {
    this_goroutine::pin();
    sigset_t one, was;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &one, &was);
    for (int i = 0; i < 10; i++) {
      EXPECT_NE(own_mask() & std::uint64_t{1} << (SIGUSR2 - 1), 0u);
      sleep_for(100us);
    }
    pthread_sigmask(SIG_SETMASK, &was, nullptr); // the thread goes to the next one that pins
    this_goroutine::unpin();
  });
}

TEST_F(Signals, TimerSlack_IsTheProgramsWhileGoroutinesRun) {
  int own = prctl(PR_GET_TIMERSLACK);
  run([=] {
    wait_group w;
    for (int k = 0; k < 20; k++)
      w.go([=] {
        for (int i = 0; i < 20; i++) {
          sleep_for(std::chrono::microseconds(50 * k));
          EXPECT_EQ(prctl(PR_GET_TIMERSLACK), own);
        }
      });
    w.wait();
  });
}

#ifndef GRT_TEST_EMULATED // qemu-user runs an exec'd program of another machine only where binfmt_misc knows it
TEST_F(Signals, Sigterm_EndsAChildOfAGoroutine) {
  run([] {
    const char* argv[] = {"sleep", "1000", nullptr};
    pid_t child;
    ASSERT_EQ(posix_spawnp(&child, "sleep", nullptr, nullptr, const_cast<char**>(argv), environ), 0);
    kill(child, SIGTERM);
    int status = 0;
    blocking([&] { waitpid(child, &status, 0); });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
  });
}
#endif

#if !GRT_DETAIL_TSAN // which delivers a signal to a thread that computes only when it makes a call that it knows
TEST_F(Signals, ProfilingTimer_ReachesThreadsOfGoroutines) {
  run([] {});
  sigset_t one, was; // main's turn is not what this is about
  sigemptyset(&one);
  sigaddset(&one, SIGPROF);
  pthread_sigmask(SIG_BLOCK, &one, &was);
  itimerval each_ms{{0, 1000}, {0, 1000}}, none{};
  setitimer(ITIMER_PROF, &each_ms, nullptr);
  run([] {
    while (handled < 10) asm volatile("");
  });
  setitimer(ITIMER_PROF, &none, nullptr);
  EXPECT_NE(by, static_cast<int>(gettid()));
  pthread_sigmask(SIG_SETMASK, &was, nullptr);
}

// ---- Handlers on the stacks of goroutines, while the scavenger is at work.
std::atomic<unsigned> spoilt;
void uses_its_stack(int) {
  constexpr std::uint64_t n = 1024;
  volatile std::uint64_t room[n];
  for (std::uint64_t i = 0; i < n; i++) room[i] = i ^ 0x5bd1e995u;
  for (std::uint64_t i = 0; i < n; i++)
    if (room[i] != (i ^ 0x5bd1e995u)) spoilt++;
  handled++;
}

TEST_F(Signals, HandlersOnStacksOfGoroutines_FindThemWhole) {
  struct sigaction a {};
  a.sa_handler = uses_its_stack;
  a.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &a, nullptr);
  spoilt = 0;
  std::atomic<bool> over{false};
  sigset_t one, was; // here and on the two threads: what goroutines run on is left
  sigemptyset(&one);
  sigaddset(&one, SIGUSR1);
  run([] {});
  pthread_sigmask(SIG_BLOCK, &one, &was);
  std::thread scavenger([&] {
    while (!over) debug::release_memory();
  });
  std::thread sender([&] {
    while (!over) {
      kill(getpid(), SIGUSR1);
      std::this_thread::yield();
    }
  });
  run([] {
    chan<int> there, back;
    wait_group w;
    w.go([&] {
      for (int v : there) back.send(v + 1);
      back.close();
    });
    w.go([&] {
      for (int i = 0; handled < 500; i++) {
        there.send(i);
        EXPECT_EQ(back.recv(), i + 1);
        wait_group one; // windows come and go
        one.go([] {});
        one.wait();
      }
      there.close();
    });
    w.wait();
  });
  over = true;
  sender.join();
  scavenger.join();
  pthread_sigmask(SIG_SETMASK, &was, nullptr);
  EXPECT_EQ(spoilt, 0u);
}
#endif

#if defined(__x86_64__)
TEST_F(Signals, ATrapInstruction_IsHandled) {
  struct sigaction a {
  }, old;
  a.sa_handler = on_signal;
  sigaction(SIGTRAP, &a, &old);
  run([] { asm volatile("int3"); });
  EXPECT_EQ(handled, 1);
  sigaction(SIGTRAP, &old, nullptr);
}
#endif
} // namespace
