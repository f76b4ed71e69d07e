// tests/fatal/process_test.cpp - the runtime in the life of a process: handles before the start, exit at any moment,
// fork and exec, idleness. Each case is a forked child, judged by exit status and stderr: this process never starts the
// runtime.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <grt/grt.hpp>

#include "sched/monitor/pace.hpp"
#include "tests/support/slow.hpp"
#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;
using testing::KilledBySignal;

long threads() {
  auto all = std::filesystem::directory_iterator("/proc/self/task");
  return std::distance(begin(all), end(all));
}

// ---- the start

chan<int> global_channel(3);
mutex global_mutex;
wait_group global_group;

TEST(ProcessStart, MakingHandlesAndSyncObjectsStartsNothing) {
  long before = threads();
  chan<int> c(1);
  chan<void> v;
  send_chan<int> s = c;
  recv_chan<int> r = c;
  shared_mutex sm;
  condition_variable cv;
  counting_semaphore<> sem(1);
  latch l(0);
  barrier<> b(1);
  once_flag once;
  timer t;
  s.send(1);
  EXPECT_EQ(r.recv(), 1);
  EXPECT_FALSE(v.try_send());
  global_channel.send(2);
  EXPECT_EQ(select(on_recv(global_channel), on_default()), 0u);
  EXPECT_EQ(select(on_recv(global_channel), on_default()), 1u);
  global_mutex.lock();
  global_mutex.unlock();
  global_group.add(1);
  global_group.done();
  global_group.wait();
  sm.lock_shared();
  sm.unlock_shared();
  cv.notify_all();
  sem.acquire();
  l.wait();
  call_once(once, [] {});
  sleep_for(1us);
  yield();
  EXPECT_EQ(goroutines(), 0u);
  EXPECT_EQ(this_goroutine::id(), 0u);
  EXPECT_EQ(threads(), before);
}

// ---- exit

// Runs f as a static object's destructor: it was made before the runtime, so it goes after.
struct at_the_end {
  void (*f)() = nullptr;
  ~at_the_end() {
    if (f) f();
  }
};
void at_static_destruction(void (*f)()) {
  static at_the_end x;
  x.f = f;
}
[[noreturn]] void finish(bool good) { _exit(good ? 0 : 9); }

volatile bool for_ever = true;
void busy() {
  while (for_ever) {
  }
}
template <class F> void start_and_wait(F f) { // until it runs
  auto runs = std::make_shared<std::atomic<bool>>(false);
  go([=] {
    *runs = true;
    f();
  });
  while (!*runs) std::this_thread::yield();
}

TEST(ProcessExit, WithGoroutinesThatNeverGiveWay) {
  EXPECT_EXIT((set_procs(3), start_and_wait(busy), start_and_wait(busy), std::exit(4)), ExitedWithCode(4), "^$");
}
TEST(ProcessExit, WithWaitersOfEveryKind) {
  EXPECT_EXIT(
      {
        static mutex m;
        static wait_group w;
        m.lock();
        w.add(1);
        go([] { chan<int>().recv(); });
        go([] { chan<int>(nil).send(1); });
        go([] { m.lock(); });
        go([] { w.wait(); });
        go([] { select(on_recv(chan<int>()), on_timeout(1h)); });
        go([] { sleep_for(1h); });
        go(attr{.pinned = true}, [] { chan<int>().recv(); });
        after_func(1h, [] {});
        static ticker often(20us);
        std::thread([] { chan<int>().recv(); }).detach();
        await_waiting(7);
        at_static_destruction([] { finish(true); }); // before a sanitizer looks for leaks: these are on purpose
        std::exit(9);
      },
      ExitedWithCode(0), "^$");
}
TEST(ProcessExit, WhenMainReturnsFromRunWhileOthersRun) {
  EXPECT_EXIT(
      {
        run([] {
          for (int i = 0; i < 50; i++)
            go([] {
              for (;;) yield();
            });
          yield();
        });
        std::exit(5);
      },
      ExitedWithCode(5), "^$");
}

// What runs as exit begins may run on to its next scheduling point; after that, nobody is dispatched.
std::atomic<long> turns{0};
void everybody_turns() {
  for (int i = 0; i < 100; i++)
    go([] {
      for (;;) {
        turns++;
        yield();
      }
    });
  while (turns < 10000) std::this_thread::yield();
}
void nobody_turns() {
  long before = turns;
  for (int i = 0; i < 20; i++) {
    yield();
    go([] { turns++; });
    std::this_thread::sleep_for(1ms);
  }
  // One for each processor, and for each goroutine that had lost its own: what ran as exit began.
  finish(turns <= before + 8 + static_cast<long>(debug::read_metrics().handoffs));
}
TEST(ProcessExit, AfterItHasBegunNoGoroutineIsDispatched) {
  for (int i = 0; i < 10; i++)
    EXPECT_EXIT((at_static_destruction(nobody_turns), set_procs(8), everybody_turns(), std::exit(3)), ExitedWithCode(0),
                "^$");
}
TEST(ProcessExit, FromAGoroutine_NoOtherIsDispatchedEither) {
  for (int i = 0; i < 10; i++)
    EXPECT_EXIT((at_static_destruction(nobody_turns), set_procs(i % 4 + 1), run([] {
                   for (int k = 0; k < 100; k++)
                     go([] {
                       for (;;) {
                         turns++;
                         yield();
                       }
                     });
                   while (turns < 10000) yield();
                   std::exit(3);
                 })),
                ExitedWithCode(0), "^$");
}

// Whoever is stopped by exit does not keep a channel's lock.
chan<int> in_use(1), in_use_too;
void use_them_too() {
  int v;
  for (int i = 0; i < 100; i++) {
    in_use.try_send(1);
    in_use.try_recv(v);
    in_use_too.try_recv(v);
    select(on_recv(in_use_too), on_send(in_use, 1), on_default());
  }
  finish(true);
}
TEST(ProcessExit, WhileChannelsAreInUse_TheyStayUsable) {
  for (int i = 0; i < 20; i++)
    EXPECT_EXIT(
        {
          at_static_destruction(use_them_too);
          set_procs(4);
          for (int k = 0; k < 4; k++) {
            go([] {
              for (;; turns++) in_use.send(1);
            });
            go([] {
              for (;;) in_use.recv();
            });
            go([] {
              for (;;) select(on_recv(in_use), on_send(in_use_too, 1), on_timeout(1ms));
            });
            go([] {
              for (;;) in_use_too.recv();
            });
          }
          while (turns < 1000) std::this_thread::yield();
          std::exit(3);
        },
        ExitedWithCode(0), "^$");
}

chan<int> parked_on, filled(2);
mutex held;
void use_channels() { // of which the other side will never run
  parked_on.send(1);  // to a receiver that waits
  filled.send(2);
  bool good = filled.recv() == 1 && filled.recv() == 2 && filled.try_send(3);
  parked_on.close();
  good = good && select(on_recv(parked_on), on_timeout(1h)) == 0 && !turns;
  std::thread unlocks([] { held.unlock(); });
  held.lock(); // may wait for a thread; goroutines run until then
  unlocks.join();
  held.unlock();
  std::thread sends([] { filled.close(); });
  for (int v : filled) good = good && v == 3;
  sends.join();
  finish(good);
}
void prepare_channels() {
  filled.send(1);
  held.lock();
  go([] {
    parked_on.recv();
    turns++;
  });
  await_waiting(1, "chan receive");
}
TEST(ProcessExit, StaticDestructorsMayUseChannels_OnTheMainThread) {
  EXPECT_EXIT((at_static_destruction(use_channels), run(prepare_channels), std::exit(3)), ExitedWithCode(0), "^$");
}
TEST(ProcessExit, StaticDestructorsMayUseChannels_InAGoroutineThatExits) {
  EXPECT_EXIT((at_static_destruction(use_channels), run([] {
                 prepare_channels();
                 std::exit(3);
               })),
              ExitedWithCode(0), "^$");
  EXPECT_EXIT((at_static_destruction(use_channels), run([] {
                 prepare_channels();
                 this_goroutine::pin();
                 std::exit(3);
               })),
              ExitedWithCode(0), "^$");
}

// ---- fork

int status_of(pid_t child) {
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}
int shell(const char* script) {
  pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", script, nullptr);
    _exit(127);
  }
  return status_of(child);
}
// The program finds signals as it would without goroutines.
bool fork_and_exec() {
  int code = shell("exit 7"), killed = shell("kill -TERM $$; exit 8");
  return WIFEXITED(code) && WEXITSTATUS(code) == 7 && WIFSIGNALED(killed) && WTERMSIG(killed) == SIGTERM;
}

#ifndef GRT_TEST_EMULATED // qemu-user runs an exec'd program of another machine only where binfmt_misc knows it
TEST(ProcessFork, ThenExec_FromMainGoroutineAndPinned) {
  EXPECT_EXIT(
      {
        run([] {});
        bool good = fork_and_exec();
        run([&] {
          for (int i = 0; i < 3; i++) {
            good = fork_and_exec() && good;
            yield();
          }
          this_goroutine::pin();
          good = fork_and_exec() && good;
          this_goroutine::unpin();
          wait_group w; // the parent is as before
          std::atomic<int> n{0};
          for (int i = 0; i < 1000; i++) w.go([&] { n++; });
          w.wait();
          good = good && n == 1000;
        });
        finish(good);
      },
      ExitedWithCode(0), "^$");
}
#endif

constexpr const char* refusal = "^grt: fatal: .*after fork: a forked child may only exec or _exit\n" GRT_END_OF_OUTPUT;
// f in a forked child of a goroutine (or of main) with others parked and running.
template <class F> void in_a_child(bool of_a_goroutine, F f) {
  static chan<int> c, full(1);
  static mutex m;
  full.send(1);
  set_procs(4);
  auto fork_here = [&] {
    m.lock();
    go([] { c.recv(); });
    go([] {
      for (;;) yield();
    });
    await_waiting(1, "chan receive");
    pid_t child = fork();
    if (child == 0) {
      f(c, full, m);
      _exit(0);
    }
    int status = status_of(child);
    if (WIFEXITED(status)) _exit(WEXITSTATUS(status));
    WTERMSIG(status) == SIGABRT ? std::abort() : _exit(99);
  };
  of_a_goroutine ? run(fork_here) : fork_here();
}
#define EXPECT_REFUSED(statement)                                                                                      \
  for (bool of_a_goroutine : {false, true})                                                                            \
  EXPECT_EXIT(in_a_child(of_a_goroutine, []([[maybe_unused]] chan<int>& c, [[maybe_unused]] chan<int>& full,           \
                                            [[maybe_unused]] mutex& m) { statement; }),                                \
              KilledBySignal(SIGABRT), refusal)

TEST(ProcessFork, TheChildMayNotSpawn) {
  EXPECT_REFUSED(go([] {}));
  EXPECT_REFUSED(run([] {}));
  EXPECT_REFUSED(wait_group().go([] {}));
  EXPECT_REFUSED(after_func(1h, [] {}));
}
TEST(ProcessFork, TheChildMayNotWait) {
  EXPECT_REFUSED(chan<int>().recv());
  EXPECT_REFUSED(full.send(2));
  EXPECT_REFUSED(select(on_recv(full), on_recv(c)); select(on_recv(full), on_timeout(1h)));
  EXPECT_REFUSED(m.lock());
  EXPECT_REFUSED(wait_group w; w.add(1); w.wait());
  EXPECT_REFUSED(latch(1).wait());
}
TEST(ProcessFork, TheChildMayNotWakeAParentsGoroutine) { EXPECT_REFUSED(c.send(1)); }
TEST(ProcessFork, TheChildMayNotStartOrResize) {
  EXPECT_REFUSED(procs());
  EXPECT_REFUSED(set_procs(2));
}
TEST(ProcessFork, TheChildMayEndEitherWay_ASecondForkToo) {
  for (bool of_a_goroutine : {false, true}) {
    auto good = [](chan<int>& c, chan<int>& full, mutex& m) {
      if (full.recv() != 1 || c.closed() || this_goroutine::id()) _exit(9); // what touches nobody goes on as before
      m.unlock();
      yield();
      if (fork() == 0) _exit(0);
      wait(nullptr);
      std::exit(9);
    };
    // The last static destructor ends it: LeakSanitizer would look for the parent's threads.
    EXPECT_EXIT((at_static_destruction([] { finish(true); }), in_a_child(of_a_goroutine, good)), ExitedWithCode(0),
                "^$");
  }
}
// Whatever the parent's threads were doing: this one is in a pass at nearly every fork.
TEST(ProcessFork, TheChildReleasesNoMemory_AndAtOnce) {
  EXPECT_EXIT(
      {
        run([] {
          for (int i = 0; i < 100; i++) go([] { chan<int>().recv(); });
        });
        static std::atomic<unsigned> passes{0};
        std::thread([] {
          for (;; passes++) debug::release_memory();
        }).detach();
        bool good = true;
        for (unsigned i = 0; i < 20 && good; i++) {
          while (passes < i) std::this_thread::yield();
          pid_t child = fork();
          if (child == 0) {
            debug::release_memory();
            _exit(7);
          }
          int status = status_of(child);
          good = WIFEXITED(status) && WEXITSTATUS(status) == 7;
        }
        finish(good);
      },
      ExitedWithCode(0), "^$");
}

// ---- idleness

// A runtime that has nothing to do sleeps: before long there are 300 ms, with everything parked, with a handful of
// wakes. Not at once: its threads may be late for lack of cores, and the scavenger has three passes to make.
void idle(unsigned n) {
  pace.pass_ns = 50'000'000;
  set_procs(n);
  run([] {
    wait_group w;
    for (int i = 0; i < 1000; i++) w.go([] { yield(); });
    w.wait();
    go([] { chan<int>().recv(); });
    go([] { select(on_recv(chan<int>()), on_timeout(1h)); });
  });
  for (;;) { // the test's time limit ends this
    rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    std::this_thread::sleep_for(300ms);
    getrusage(RUSAGE_SELF, &after);
    if (after.ru_nvcsw - before.ru_nvcsw <= 20) finish(true);
  }
}
TEST(ProcessIdle, NobodyWakesUp) {
  for (unsigned n : {1, 2, 8}) EXPECT_EXIT(idle(n), ExitedWithCode(0), "^$");
}
} // namespace
