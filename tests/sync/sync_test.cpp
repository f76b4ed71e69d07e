// tests/sync/sync_test.cpp - mutex and wait_group.
#include "tests/support/fixture.hpp"

#include <memory>
#include <thread>

using namespace grt;

namespace {
using Mutex = GrtTest;
using WaitGroup = GrtTest;

TEST_F(Mutex, ExcludesGoroutinesAndThreads) {
  mutex m;
  long plain = 0;
  int n = scaled(20000);
  std::thread t([&] {
    for (int i = 0; i < n; i++) {
      std::lock_guard hold(m);
      plain++;
    }
  });
  run([&] {
    wait_group w;
    for (int g = 0; g < 16; g++)
      w.go([&, g] {
        for (int i = 0; i < n; i++) {
          std::lock_guard hold(m);
          plain++;
          if ((i + g) % 16 == 0) yield();
        }
      });
    w.wait();
  });
  t.join();
  EXPECT_EQ(plain, 17L * n);
}

TEST_F(Mutex, TryLock) {
  mutex m;
  EXPECT_TRUE(m.try_lock());
  EXPECT_FALSE(m.try_lock());
  m.unlock();
}

TEST_F(Mutex, AWaiterIsNotOvertakenForEver) {
  run([] {
    mutex m;
    std::atomic<bool> stop{false}, got{false};
    wait_group w;
    w.go([&] {
      while (!stop) {
        std::lock_guard hold(m);
        yield();
      }
    });
    w.go([&] {
      for (int i = 0; i < 20; i++) {
        std::lock_guard hold(m);
        yield();
      }
      got = true;
      stop = true;
    });
    w.wait();
    EXPECT_TRUE(got);
  });
}

TEST_F(WaitGroup, NegativeCounter_ThrowsAndChangesNothing) {
  wait_group w;
  EXPECT_THROW(w.done(), std::logic_error);
  w.add(1);
  EXPECT_THROW(w.add(-2), std::logic_error);
  w.done();
  w.wait();
}

TEST_F(WaitGroup, TheWaiterMayDestroyItAtOnce) {
  run([] {
    for (int i = 0; i < scaled(200000); i++) {
      auto w = std::make_unique<wait_group>();
      w->add(2);
      go([p = w.get()] { p->done(); });
      go([p = w.get()] { p->done(); });
      w->wait();
    }
  });
}

TEST_F(WaitGroup, ManyWaiters) {
  run([] {
    wait_group gate, all;
    gate.add(1);
    std::atomic<int> through{0};
    for (int i = 0; i < 1000; i++)
      all.go([&] {
        gate.wait();
        through++;
      });
    for (int i = 0; i < 10; i++) yield();
    gate.done();
    all.wait();
    EXPECT_EQ(through, 1000);
  });
}
} // namespace
