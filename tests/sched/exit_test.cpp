// tests/sched/exit_test.cpp - grt::exit. Its fatal ways are in tests/fatal/exit_test.cpp.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <cxxabi.h>
#include <exception>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <thread>

using namespace grt;
using namespace std::chrono_literals;

namespace {
using Exit = GrtTest;

// A goroutine that exits still counts down.
template <class F> void go_counted(wait_group& w, F f, const attr& a = {}) {
  w.add(1);
  go(a, [&w, f] {
    defer d{[&] { w.done(); }};
    f();
  });
}

struct noted { // appends its name when destroyed
  std::string& to;
  char name;
  ~noted() { to += name; }
};

GRT_DETAIL_NOINLINE void deep(int n, std::string& order) {
  noted a{order, static_cast<char>('a' + n)};
  if (!n) grt::exit();
  if (order.empty()) deep(n - 1, order);
  order += "never";
}

TEST_F(Exit, RunsDestructorsFromAnyDepth_InOrder) {
  std::string order;
  run([&] { deep(9, order); });
  EXPECT_EQ(order, "abcdefghij");
}

TEST_F(Exit, OutsideAGoroutine_Throws) { EXPECT_THROW(grt::exit(), std::logic_error); }

TEST_F(Exit, InRun_VoidReturns_OthersThrow) {
  run([] { grt::exit(); });
  EXPECT_THROW(run([]() -> int { grt::exit(); }), std::logic_error);
  try {
    run([]() -> int& { grt::exit(); });
    ADD_FAILURE();
  } catch (const std::logic_error& e) {
    EXPECT_STREQ(e.what(), "grt::exit() ended the function given to run");
  }
}

TEST_F(Exit, InATask_VoidReturns_OthersThrow) {
  spawn([] { grt::exit(); }).get();
  auto t = spawn([](int) -> std::string { grt::exit(); }, 1);
  t.join();
  EXPECT_THROW(t.get(), std::logic_error);
  spawn([] { grt::exit(); }).detach();
}

TEST_F(Exit, DestroysTheClosure_SmallLargeAndPinned) {
  auto small = std::make_shared<int>(1);
  wait_group w;
  for (const attr& a : {attr{}, attr{.stack_max = 64 << 10}, attr{.pinned = true}}) {
    w.add(3);
    go(a, [&w, small] {
      w.done();
      grt::exit();
    });
    go(a, [&w, small, big = std::array<char, 500>()] {
      w.done();
      EXPECT_EQ(big[499], 0);
      grt::exit();
    });
    go(
        a,
        [&w](const std::shared_ptr<int>&) {
          w.done();
          grt::exit();
        },
        small);
  }
  w.wait();
  while (small.use_count() > 1) sleep_for(100us);
}

TEST_F(Exit, InsideCatchBlocks_HandlersMayLookAndRethrow) {
  std::atomic<int> seen{0};
  run([&] {
    try {
      throw std::runtime_error("one");
    } catch (...) {
      try {
        throw 2;
      } catch (int) {
        try {
          try {
            grt::exit();
          } catch (...) { // inside two other handlers
            seen++;
            yield();
            throw;
          }
        } catch (abi::__forced_unwind&) {
          seen += 10;
          sleep_for(10us);
          throw;
        }
      }
      seen += 100;
    }
    seen += 100;
  });
  EXPECT_EQ(seen, 11);
  run([] { EXPECT_TRUE(!std::current_exception() && !std::uncaught_exceptions()); });
}

TEST_F(Exit, DestructorsMayThrowAndCatch_Wait_AndStartGoroutines) {
  chan<int> c;
  std::atomic<int> sum{0};
  struct busy {
    chan<int>& c;
    std::atomic<int>& sum;
    ~busy() {
      EXPECT_EQ(std::uncaught_exceptions(), 1);
      try {
        yield();
        throw 5;
      } catch (int v) {
        sum += v;
      }
      go([c = c] { c.send(7); });
      sum += *c.recv();
      sleep_for(10us);
      EXPECT_EQ(run([] { return 3; }), 3);
      run([] { grt::exit(); });
    }
  };
  run([&] {
    busy a{c, sum}, b{c, sum};
    grt::exit();
  });
  EXPECT_EQ(sum, 24);
}

TEST_F(Exit, UnlocksWhatGuardsHold) {
  mutex m;
  for (int i = 0; i < 3; i++)
    run([&] {
      std::lock_guard hold(m);
      grt::exit();
    });
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TEST_F(Exit, ManyAtOnce_AfterMigrations) {
  run([] {
    wait_group w;
    std::atomic<int> destroyed{0};
    struct counted {
      std::atomic<int>& n;
      ~counted() {
        yield(); // the unwinding goes on elsewhere
        n++;
      }
    };
    int n = scaled(4000);
    for (int i = 0; i < n; i++) {
      attr a;
      if (i % 64 == 1) a.stack_max = 1 << 20;
      if (i % 200 == 2) a.pinned = true;
      go_counted(
          w,
          [&destroyed, i] {
            counted one{destroyed};
            for (int k = 0; k < i % 7; k++) yield();
            sleep_for(std::chrono::microseconds(i % 50));
            try {
              counted two{destroyed};
              if (i % 3 == 0) throw i;
              grt::exit();
            } catch (int) {
              counted three{destroyed};
              grt::exit();
            }
          },
          a);
    }
    w.wait();
    EXPECT_EQ(destroyed, n * 2 + (n + 2) / 3);
  });
}

TEST_F(Exit, LeavesTheStackReusable) { // windows, slots and exception state go round
  run([] {
    wait_group w;
    for (int i = 0; i < scaled(20000); i++) {
      go_counted(w, [i] {
        volatile char page[3000];
        page[i % 3000] = 1;
        EXPECT_EQ(page[i % 3000], 1);
        if (i % 2) grt::exit();
      });
      if (i % 100 == 0) w.wait();
    }
    w.wait();
  });
}

// ---- pthread_exit: the same for a goroutine

TEST_F(Exit, ByPthreadExit_EndsTheGoroutineAlone) {
#if GRT_DETAIL_TSAN
  GTEST_SKIP() << "ThreadSanitizer's pthread_exit() knows no fibers";
#endif
  std::string order;
  wait_group w;
  for (int i = 0; i < 20; i++) { // more often than there are threads
    go_counted(w, [&] {
      if (order.size() == 20) return;
      noted a{order, 'a'};
      try {
        throw std::runtime_error("handled meanwhile");
      } catch (const std::runtime_error&) {
        pthread_exit(nullptr);
      }
    });
    w.wait();
  }
  EXPECT_EQ(order, std::string(20, 'a'));
  EXPECT_EQ(run([] { return 5; }), 5);
  EXPECT_THROW(run([]() -> int { pthread_exit(nullptr); }), std::logic_error);
}
TEST_F(Exit, ByPthreadExit_Pinned) {
#if GRT_DETAIL_TSAN
  GTEST_SKIP() << "ThreadSanitizer's pthread_exit() knows no fibers";
#endif
  wait_group w;
  for (int i = 0; i < 5; i++) {
    std::string order;
    go_counted(
        w,
        [&] {
          noted a{order, 'a'};
          yield();
          pthread_exit(nullptr);
        },
        attr{.pinned = true});
    go_counted(w, [] {
      this_goroutine::pin();
      pthread_exit(nullptr);
    });
    w.wait();
    EXPECT_EQ(order, "a");
  }
}
TEST_F(Exit, ByPthreadExit_NoExceptionIsLeftBehind) { // whoever runs on this thread next
#if GRT_DETAIL_TSAN
  GTEST_SKIP() << "ThreadSanitizer's pthread_exit() knows no fibers";
#endif
  wait_group w;
  for (int i = 0; i < 20; i++) {
    go_counted(w, [] { pthread_exit(nullptr); });
    go_counted(w, [] {
      EXPECT_EQ(std::uncaught_exceptions(), 0);
      EXPECT_EQ(std::current_exception(), nullptr);
      EXPECT_THROW(throw 1, int);
    });
  }
  w.wait();
}
TEST_F(Exit, PthreadCancelOfARuntimesThread_HasNoEffect) {
  bool went_on = false;
  wait_group w;
  go_counted(
      w,
      [&] {
        pthread_cancel(pthread_self());
        pthread_testcancel();
        went_on = true;
      },
      attr{.pinned = true}); // so that it takes the request along
  w.wait();
  EXPECT_TRUE(went_on);
}
} // namespace
