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

TEST_F(Mutex, TryLockFor_TimesOut_ThenSucceeds) {
  run([] {
    mutex m;
    m.lock();
    auto begin = std::chrono::steady_clock::now();
    EXPECT_FALSE(m.try_lock_for(std::chrono::milliseconds(2)));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(2));
    EXPECT_FALSE(m.try_lock_for(std::chrono::seconds(-1)));
    EXPECT_FALSE(m.try_lock_until(std::chrono::system_clock::now() + std::chrono::milliseconds(1)));
    wait_group w;
    w.go([&] {
      EXPECT_TRUE(m.try_lock_for(std::chrono::hours(1)));
      m.unlock();
    });
    yield();
    m.unlock();
    w.wait();
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  });
}

TEST_F(Mutex, TimedAndPlainLockersMixed_LoseNoUnlock) {
  run([] {
    mutex m;
    wait_group w;
    long inside = 0, expected = 0;
    std::atomic<long> got{0};
    for (int k = 0; k < 12; k++)
      w.go([&, k] {
        for (int i = 0; i < scaled(1500); i++) {
          if (k % 2) {
            m.lock();
          } else if (!m.try_lock_for(std::chrono::microseconds(1 + i % 40))) {
            continue;
          }
          got++;
          inside++;
          if (i % 8 == 0) yield();
          m.unlock();
        }
      });
    w.wait();
    m.lock();
    expected = got;
    EXPECT_EQ(inside, expected);
    m.unlock();
  });
}

TEST_F(WaitGroup, WaitFor) {
  run([] {
    wait_group w;
    EXPECT_TRUE(w.wait_for(std::chrono::milliseconds(1)));
    w.add(1);
    EXPECT_FALSE(w.wait_for(std::chrono::milliseconds(1)));
    EXPECT_FALSE(w.wait_for(std::chrono::milliseconds(0)));
    grt::go([&] { w.done(); });
    EXPECT_TRUE(w.wait_for(std::chrono::hours(1)));
  });
}

TEST_F(WaitGroup, WaitFor_AgainstDone_MayDestroyAtOnce) {
  run([] {
    for (int i = 0; i < scaled(5000); i++) {
      auto w = std::make_shared<wait_group>();
      w->add(1);
      grt::go([w] {
        yield();
        w->done();
      });
      bool a = w->wait_for(std::chrono::microseconds(i % 4));
      if (!a) w->wait();
    }
  });
}

TEST_F(WaitGroup, GoWithAttributes) {
  run([] {
    wait_group w;
    w.go(attr{.name = "worker"}, [] { EXPECT_EQ(this_goroutine::name(), "worker"); });
    EXPECT_THROW(w.go(attr{.stack_max = 1}, [] {}), std::invalid_argument);
    w.wait();
  });
}
} // namespace
