// tests/fatal/at_exit_test.cpp - what static objects may do once main has returned, with goroutines that were
// abandoned. Each case is a forked child that must end with the status it asked for, and say nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>

#include <unistd.h>

#include <grt/grt.hpp>

#include "tests/support/slow.hpp"
#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;

constexpr unsigned procs_tried[] = {1, 2, 8};

// The child ends with 4 and says nothing, each time.
#define EXPECT_ENDS(child)                                                                                             \
  for (unsigned n : procs_tried)                                                                                       \
    for (int i = 0; i < scaled(5); i++)                                                                                \
  EXPECT_EXIT((set_procs(n), child(), std::exit(4)), ExitedWithCode(4), "^$") << n << " processors"

void abandon() { sleep_for(1h); }

// Objects of static storage: those at namespace scope are destroyed after the runtime's handler of exit has run, those
// of functions, which are made after the runtime, before. Each child uses those of one kind.
struct objects {
  mutex m;
  shared_mutex shared;
  wait_group group;
  condition_variable condition;
  once_flag once;
  counting_semaphore<> semaphore{0};
  latch down{1};
  barrier<> all{3};
  chan<int> full{1};
  single_flight<int, int> flight;
};
objects old_ones;
objects& new_ones() {
  static objects x;
  return x;
}
template <class F> void of_both(F f, bool is_new) { f(is_new ? new_ones() : old_ones); }
#define EXPECT_ENDS_WITH(use)                                                                                          \
  for (bool is_new : {false, true}) {                                                                                  \
    auto child = [is_new] { of_both(use, is_new); };                                                                   \
    EXPECT_ENDS(child) << (is_new ? ", a static of a function" : ", a static of the file");                            \
  }

// One goroutine has the object, others and a thread wait for it.
template <class Take> void take_and_crowd(Take take, const char* why) {
  chan<void> taken(1);
  go([=] {
    take();
    taken.send();
    abandon();
  });
  taken.recv();
  for (int i = 0; i < 2; i++) go(take);
  std::thread(take).detach();
  await_waiting(2, why);
}

TEST(AtExit, MutexHeldByAnAbandonedGoroutine) {
  EXPECT_ENDS_WITH([](objects& o) { take_and_crowd([&] { o.m.lock(); }, "mutex"); });
}
TEST(AtExit, SharedMutexHeld_EitherWay) {
  EXPECT_ENDS_WITH([](objects& o) { take_and_crowd([&] { o.shared.lock(); }, "shared mutex"); });
  EXPECT_ENDS_WITH([](objects& o) {
    chan<void> taken;
    for (int i = 0; i < 3; i++)
      go([&, taken] {
        o.shared.lock_shared();
        taken.send();
        abandon();
      });
    for (int i = 0; i < 3; i++) taken.recv();
  });
}
TEST(AtExit, WaitGroupWaitedOn) {
  EXPECT_ENDS_WITH([](objects& o) {
    o.group.add(1);
    for (int i = 0; i < 3; i++) go([&] { o.group.wait(); });
    std::thread([&] { o.group.wait(); }).detach();
    await_waiting(3, "wait group");
  });
}
void wait_for_a_condition(objects& o) {
  for (int i = 0; i < 4; i++)
    go([&] {
      std::unique_lock hold(o.m);
      o.condition.wait(hold);
      abandon();
    });
  await_waiting(4, "condition variable");
}
TEST(AtExit, ConditionWaitedOn) { EXPECT_ENDS_WITH(wait_for_a_condition); }
TEST(AtExit, ConditionWithWaitersThatHaveJustBeenNotified) {
  EXPECT_ENDS_WITH([](objects& o) {
    wait_for_a_condition(o);
    o.condition.notify_all();
  });
}
TEST(AtExit, OnceUnderWay) {
  EXPECT_ENDS_WITH([](objects& o) {
    chan<void> runs(1);
    for (int i = 0; i < 2; i++)
      go([&, runs] {
        call_once(o.once, [&] {
          runs.send();
          abandon();
        });
      });
    runs.recv();
    await_waiting(1, "mutex");
  });
}
TEST(AtExit, AnythingElseWaitedOn) {
  EXPECT_ENDS_WITH([](objects& o) {
    o.full.send(1);
    go([&] { o.semaphore.acquire(); });
    go([&] { o.down.wait(); });
    go([&] { o.all.arrive_and_wait(); });
    go([&] { o.full.send(1); });
    go([&] { select(on_send(o.full, 1), on_timeout(1h)); });
    for (int i = 0; i < 2; i++)
      go([&] {
        o.flight.run(1, [] {
          abandon();
          return 1;
        });
      });
    await_waiting(7);
  });
}
TEST(AtExit, ADestructorThatIsNotOfAStaticObject_StillReportsMisuse) {
  EXPECT_EXIT(run([] {
                std::optional<mutex> m(std::in_place);
                m->lock();
                m.reset();
              }),
              testing::KilledBySignal(SIGABRT), "grt: fatal: a locked grt::mutex is destroyed");
}

// ---- waits for goroutines

std::optional<task<int>> old_task;
std::optional<error_group> old_group;
std::optional<scope> old_scope;
std::atomic<int> done{0};
void work() {
  for (int i = 0; i < 3; i++) sleep_for(2ms);
  yield();
  done++;
}
// Runs f in a static destructor, after the runtime's handler of exit: it was made before the runtime.
struct at_the_end {
  void (*f)() = nullptr;
  ~at_the_end() {
    if (f) f();
  }
} at_last;
void all_is_done() { done == 1 ? _exit(4) : _exit(9); }

TEST(AtExit, StaticTask_IsJoined) {
  EXPECT_ENDS([] {
    at_last.f = all_is_done;
    static struct joins_first { // at_last is destroyed after it
      ~joins_first() { old_task.reset(); }
    } x;
    old_task = spawn([] {
      work();
      return 1;
    });
  });
  EXPECT_ENDS([] {
    at_last.f = [] {
      old_task.reset();
      all_is_done();
    };
    old_task = spawn([] {
      work();
      return 1;
    });
  });
}
TEST(AtExit, StaticTaskOfAPinnedGoroutine_IsJoined) {
  EXPECT_ENDS([] {
    at_last.f = [] {
      old_task.reset();
      all_is_done();
    };
    old_task = spawn(attr{.pinned = true}, [] {
      work();
      return 1;
    });
  });
}
TEST(AtExit, StaticErrorGroup_IsCancelledAndJoined) {
  EXPECT_ENDS([] {
    at_last.f = [] {
      old_group.reset();
      all_is_done();
    };
    old_group.emplace();
    old_group->go([end = old_group->context()] {
      end.done().recv();
      work();
    });
  });
}
TEST(AtExit, StaticScope_IsJoined) {
  EXPECT_ENDS([] {
    at_last.f = [] {
      old_scope.reset();
      all_is_done();
    };
    old_scope.emplace();
    old_scope->go(work);
  });
}
TEST(AtExit, AMutexThatARunningGoroutineHolds_IsWaitedFor) {
  EXPECT_ENDS([] {
    at_last.f = [] {
      old_ones.m.lock();
      old_ones.m.unlock();
      all_is_done();
    };
    chan<void> taken(1);
    go([=] {
      std::lock_guard hold(old_ones.m);
      taken.send();
      work();
    });
    taken.recv();
  });
}
TEST(AtExit, TimedWaits_End) {
  EXPECT_ENDS([] {
    at_last.f = [] {
      mutex m;
      wait_group w;
      condition_variable c;
      chan<int> never;
      m.lock();
      w.add(1);
      bool good = !m.try_lock_for(2ms) && !w.wait_for(2ms);
      std::unique_lock hold(m, std::adopt_lock);
      good = good && c.wait_for(hold, 2ms) == std::cv_status::timeout;
      good = good && select(on_recv(never), on_timeout(2ms)) == 1;
      _exit(good ? 4 : 9);
    };
  });
}

// The goroutine that called exit() has a processor, and perhaps the only one.
template <class F> void exit_from_a_goroutine(F before) {
  at_last.f = [] {
    old_task.reset();
    all_is_done();
  };
  run([=] {
    old_task = spawn([] {
      work();
      return 1;
    });
    before();
    std::exit(9);
  });
}
TEST(AtExit, ExitFromAGoroutine_AStaticTaskIsJoined) {
  EXPECT_ENDS([] { exit_from_a_goroutine([] {}); });
}
TEST(AtExit, ExitFromAPinnedGoroutine_AStaticTaskIsJoined) {
  EXPECT_ENDS([] { exit_from_a_goroutine([] { this_goroutine::pin(); }); });
}
TEST(AtExit, ExitInABlockingCall_AStaticTaskIsJoined) {
  EXPECT_ENDS([] { exit_from_a_goroutine([] { blocking([] { std::exit(9); }); }); });
}
TEST(AtExit, WhileOthersCompute_AStaticTaskIsJoined) {
  EXPECT_ENDS([] {
    static volatile bool for_ever = true;
    exit_from_a_goroutine([] {
      for (int i = 0; i < 2; i++)
        go([] {
          while (for_ever) {
          }
        });
      sleep_for(1ms);
    });
  });
}

// ---- threads of the program's own that use goroutines

struct has_a_thread {
  std::atomic<bool> stop{false};
  std::atomic<long> runs{0};
  std::thread t;
  void loop() {
    for (int more = 10; !stop || more--;) { // it has much to finish
      run([] { yield(); });
      runs++;
    }
  }
  ~has_a_thread() {
    if (!t.joinable()) return;
    stop = true;
    t.join();
    _exit(4);
  }
} old_worker;
TEST(AtExit, AStaticObjectJoinsItsThread_WhichCallsRun) {
  EXPECT_ENDS([] {
    old_worker.t = std::thread([] { old_worker.loop(); });
    while (!old_worker.runs) std::this_thread::yield();
  });
}
chan<int> to_worker;
struct joins_a_waiter {
  std::thread t;
  ~joins_a_waiter() {
    if (!t.joinable()) return;
    to_worker.send(1); // to a goroutine, which the thread waits for
    t.join();
    _exit(done == 1 ? 4 : 9);
  }
} old_waiter;
TEST(AtExit, AStaticObjectJoinsItsThread_WhichHasWaitedInRunSinceBefore) {
  EXPECT_ENDS([] {
    old_waiter.t = std::thread([] {
      run([] {
        to_worker.recv();
        work();
      });
    });
    await_waiting(1, "chan receive");
  });
}
// The thread that is joined does not wait in grt itself: it joins one that does.
TEST(AtExit, AThreadThatNobodyIsSeenToJoin_GoesOnWithinASecond) {
  EXPECT_EXIT((
                  set_procs(2),
                  [] {
                    old_waiter.t = std::thread([] {
                      std::thread([] {
                        run([] {
                          to_worker.recv();
                          work();
                        });
                      }).join();
                    });
                    await_waiting(1, "chan receive");
                  }(),
                  std::exit(9)),
              ExitedWithCode(4), "^$");
}

// ---- no dispatch but while somebody waits

std::atomic<long> turns{0}, begun{0};
void nobody_turns_between_waits() {
  for (int i = 0; i < 10; i++) {
    long before = turns;
    task<void> t = spawn([] { yield(); });
    t.join();
    while (turns == before) { // others run meanwhile
      task<void> again = spawn([] { yield(); });
      again.join();
    }
    std::this_thread::sleep_for(1ms); // a thread that was off its core may have chosen one more, old or new
    long rest = turns, begun_before = begun;
    for (int k = 0; k < 20; k++) {
      yield();
      go([] { begun++; });
      std::this_thread::sleep_for(100us);
    }
    if (turns > rest + 100 || begun > begun_before + procs() + 1) {
      std::fprintf(stderr, "%ld turns, %ld begun\n", turns - rest, begun - begun_before);
      _exit(9);
    }
  }
  _exit(4);
}
TEST(AtExit, BetweenTwoWaits_NobodyIsDispatched) {
  EXPECT_ENDS([] {
    at_last.f = nobody_turns_between_waits;
    for (int i = 0; i < 20; i++)
      go([] {
        for (;;) {
          turns++;
          yield();
        }
      });
    go(attr{.pinned = true}, [] {
      for (;;) {
        turns++;
        yield();
      }
    });
    while (turns < 1000) std::this_thread::yield();
  });
}

// ---- what can never end

void wait_for_ever() { chan<int>().recv(); }
#ifndef GRT_TEST_EMULATED
constexpr const char* asleep = "^grt: fatal: all goroutines are asleep - deadlock!\n\n.*chan receive";
TEST(AtExit, AWaitThatNobodyEnds_IsADeadlock) {
  for (unsigned n : procs_tried) {
    EXPECT_EXIT((set_procs(n), at_last.f = wait_for_ever, go([] { chan<int>(nil).recv(); }), std::exit(9)),
                ExitedWithCode(2), asleep);
    EXPECT_EXIT((set_procs(n), at_last.f = wait_for_ever, run([] { std::exit(9); })), ExitedWithCode(2), asleep);
    EXPECT_EXIT((set_procs(n), at_last.f = wait_for_ever, run([] {
                   this_goroutine::pin();
                   std::exit(9);
                 })),
                ExitedWithCode(2), asleep);
  }
}
#endif

// ---- other ends; main by pthread_exit: at_exit_program.cpp

TEST(AtExit, QuickExitAndUnderscoreExit_WaitForNobody) {
  for (unsigned n : procs_tried)
    for (bool quick : {false, true})
      for (bool of_a_goroutine : {false, true})
        EXPECT_EXIT(
            {
              set_procs(n);
              at_last.f = wait_for_ever;
              old_ones.m.lock();
              auto end = [=] { quick ? std::quick_exit(4) : _exit(4); };
              of_a_goroutine ? run(end) : end();
            },
            ExitedWithCode(4), "^$");
}

// The handler runs after the runtime's: processors whose goroutines compute stand still by then.
TEST(AtExit, ADumpSaysThatProcessorsStandStill) {
  EXPECT_EXIT(
      {
        std::atexit([] { debug::dump(2); });
        set_procs(2);
        std::atomic<bool> runs{false};
        go([&] {
          runs = true;
          for (;;) asm volatile("");
        });
        while (!runs) std::this_thread::yield();
        std::exit(4);
      },
      ExitedWithCode(4), "standing still: the process is exiting");
}
} // namespace
