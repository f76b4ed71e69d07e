// Pinned goroutines: one thread each, `procs` still bounds what runs, and the processor always comes home.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <set>
#include <thread>

#include <unistd.h>

namespace {
using namespace grt;
using Pin = GrtTest;

GRT_DETAIL_NOINLINE pid_t tid() { return gettid(); }

TEST_F(Pin, OutsideAGoroutine_IsFalse) {
  EXPECT_FALSE(this_goroutine::pin());
  this_goroutine::unpin();
}

TEST_F(Pin, StaysOnItsThread_ThroughYieldsSleepsAndChannels) {
  run([] {
    chan<int> c;
    wait_group w;
    w.go([=] {
      for (int i = 0; i < scaled(2000); i++) c.send(i);
      c.close();
    });
    w.go([=] {
      ASSERT_TRUE(this_goroutine::pin());
      pid_t mine = tid();
      for ([[maybe_unused]] int v : c) {
        ASSERT_EQ(tid(), mine);
        yield();
        ASSERT_EQ(tid(), mine);
      }
      sleep_for(std::chrono::milliseconds(2));
      ASSERT_EQ(tid(), mine);
      this_goroutine::unpin();
    });
    w.wait();
  });
}

TEST_F(Pin, NobodyElseRunsOnItsThread) {
  run([] {
    chan<pid_t> mine;
    chan<void> stop;
    wait_group w;
    std::atomic<pid_t> pinned{0};
    w.go([&] {
      this_goroutine::pin();
      pinned = tid();
      stop.recv();
    });
    while (!pinned) yield();
    for (int k = 0; k < 20; k++)
      w.go([&] {
        for (int i = 0; i < 50; i++) {
          EXPECT_NE(tid(), pinned.load());
          yield();
        }
      });
    yield();
    stop.close();
    w.wait();
  });
}

TEST_F(Pin, Nests) {
  run([] {
    EXPECT_TRUE(this_goroutine::pin());
    EXPECT_TRUE(this_goroutine::pin());
    pid_t mine = tid();
    this_goroutine::unpin();
    for (int i = 0; i < 100; i++) yield();
    EXPECT_EQ(tid(), mine);
    this_goroutine::unpin();
    this_goroutine::unpin(); // nothing left to undo
    EXPECT_TRUE(this_goroutine::pin());
    this_goroutine::unpin();
  });
}

TEST_F(Pin, Attr_FirstStatementIsAlreadyPinned_AndTheThreadEndsWithIt) {
  run([] {
    std::set<pid_t> seen;
    for (int i = 0; i < 20; i++) {
      wait_group w;
      pid_t t = 0;
      w.add(1);
      go(attr{.name = "pinned", .pinned = true}, [&] {
        t = tid();
        yield();
        EXPECT_EQ(t, tid());
        w.done();
      });
      w.wait();
      seen.insert(t);
    }
    EXPECT_GT(seen.size(), 10u);
  });
}

TEST_F(Pin, NoMoreRunAtOnceThanProcs) {
  run([] {
    unsigned limit = procs();
    auto handoffs = debug::read_metrics().handoffs; // for each, one may run on without its processor
    std::atomic<unsigned> running{0}, most{0};
    wait_group w;
    for (int k = 0; k < 16; k++) {
      w.add(1);
      go(attr{.pinned = k % 2 == 0}, [&] {
        for (int i = 0; i < scaled(200); i++) {
          unsigned now = ++running, m = most;
          while (now > m && !most.compare_exchange_weak(m, now)) {
          }
          for (volatile int spin = 0; spin < 200;) spin = spin + 1;
          --running;
          yield();
        }
        w.done();
      });
    }
    w.wait();
    EXPECT_LE(most.load(), limit + debug::read_metrics().handoffs - handoffs);
  });
}

TEST_F(Pin, ManyTalkToManyOrdinary) {
  run([] {
    chan<int> c(4), back;
    wait_group w;
    for (int k = 0; k < 8; k++) {
      w.go([=] {
        this_goroutine::pin();
        pid_t mine = tid();
        for (int i = 0; i < scaled(500); i++) {
          c.send(1);
          ASSERT_EQ(tid(), mine);
        }
        if (k % 2) this_goroutine::unpin(); // the others end pinned
      });
    }
    go([&, w = &w] {
      w->wait();
      c.close();
    });
    int sum = 0;
    for (int v : c) sum += v;
    EXPECT_EQ(sum, 8 * scaled(500));
  });
}

TEST_F(Pin, ExceptionsSurvivePinning) {
  run([] {
    try {
      throw 42;
    } catch (int& v) {
      this_goroutine::pin();
      yield();
      EXPECT_EQ(v, 42);
      EXPECT_TRUE(std::current_exception() != nullptr);
      this_goroutine::unpin();
      EXPECT_EQ(v, 42);
    }
  });
}

TEST_F(Pin, ProcsMayChangeMeanwhile) {
  unsigned before = procs();
  run([] {
    wait_group w;
    std::atomic<bool> stop{false};
    for (int k = 0; k < 4; k++)
      w.go([&] {
        this_goroutine::pin();
        pid_t mine = tid();
        while (!stop) {
          yield();
          ASSERT_EQ(tid(), mine);
        }
      });
    for (unsigned n : {1u, 4u, 2u, 8u, 1u, 3u}) {
      set_procs(n);
      sleep_for(std::chrono::milliseconds(2));
    }
    stop = true;
    w.wait();
  });
  set_procs(before);
}

TEST_F(Pin, StressOfPinAndUnpin) {
  run([] {
    wait_group w;
    for (int k = 0; k < 12; k++)
      w.go([] {
        for (int i = 0; i < scaled(300); i++) {
          this_goroutine::pin();
          pid_t mine = tid();
          yield();
          ASSERT_EQ(tid(), mine);
          this_goroutine::unpin();
          yield();
        }
      });
    w.wait();
  });
}
} // namespace

namespace {
struct spawns_at_thread_end {
  grt::chan<int> c = grt::nil;
  ~spawns_at_thread_end() {
    if (c)
      for (int i = 0; i < 100; i++) grt::go([c = c] { c.send(1); });
  }
};
thread_local spawns_at_thread_end last;

// Its P is long somebody else's then.
TEST_F(Pin, ThreadLocalDestructorsOfAnEndedOne_AreAForeignThreads) {
  for (int round = 0; round < scaled(40); round++) {
    grt::chan<int> c(100);
    grt::go(grt::attr{.pinned = true}, [=] { last.c = c; });
    for (int i = 0; i < 100; i++) c.recv();
  }
}
} // namespace
