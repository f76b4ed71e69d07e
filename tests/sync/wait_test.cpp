// shared_mutex, condition_variable, semaphores, latch, barrier, call_once.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <memory>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using SharedMutex = GrtTest;
using Condition = GrtTest;
using Semaphore = GrtTest;
using Latch = GrtTest;
using Barrier = GrtTest;
using Once = GrtTest;

TEST_F(SharedMutex, ReadersTogether_WritersAlone_FromGoroutinesAndThreads) {
  shared_mutex m;
  long value = 0;
  std::atomic<int> readers{0}, most{0}, writers{0};
  auto read = [&] {
    std::shared_lock hold(m);
    int n = ++readers;
    for (int seen = most; n > seen && !most.compare_exchange_weak(seen, n);) {
    }
    EXPECT_EQ(writers, 0);
    yield();
    readers--;
  };
  auto write = [&] {
    std::lock_guard hold(m);
    EXPECT_EQ(++writers, 1);
    EXPECT_EQ(readers, 0);
    value++;
    yield();
    writers--;
  };
  int rounds = scaled(2000);
  wait_group w;
  latch start(8); // else the first may be over before the last is born
  for (int g = 0; g < 8; g++)
    w.go([&, g] {
      start.arrive_and_wait();
      for (int i = 0; i < rounds; i++) (i + g) % 4 ? read() : write();
    });
  std::thread outside([&] {
    for (int i = 0; i < rounds / 4; i++) i % 4 ? read() : write();
  });
  w.wait();
  outside.join();
  EXPECT_EQ(value, 2 * rounds + (rounds / 4 + 3) / 4);
  EXPECT_GT(most, 1);
}

TEST_F(SharedMutex, AWaitingWriterHoldsReadersBack_AndGivesUpInOrder) {
  run([] {
    shared_mutex m;
    m.lock_shared();
    EXPECT_TRUE(m.try_lock_shared());
    m.unlock_shared();
    EXPECT_FALSE(m.try_lock());
    EXPECT_FALSE(m.try_lock_for(1ms)); // nobody behind it
    chan<int> done(2);
    auto [patience, ends] = with_cancel(background());
    go([&, &patience = patience] {
      EXPECT_THROW(m.lock(patience), std::system_error);
      done.send(1);
    });
    while (m.try_lock_shared()) { // until the writer stands in line
      m.unlock_shared();
      yield();
    }
    go([&] { // behind the writer: goes on when that gives up, though nobody unlocks
      m.lock_shared();
      m.unlock_shared();
      done.send(2);
    });
    await_waiting(2, "shared mutex");
    ends();
    EXPECT_EQ(*done.recv() + *done.recv(), 3);
    m.unlock_shared();
    EXPECT_TRUE(m.try_lock());
    EXPECT_FALSE(m.try_lock_shared());
    EXPECT_FALSE(m.try_lock_shared_for(1ms));
    m.unlock();
  });
}

TEST_F(SharedMutex, Until_EndsAtItsTimeOfAnyClock_OrWithTheLock) {
  run([] {
    shared_mutex m;
    m.lock();
    auto t0 = std::chrono::steady_clock::now();
    EXPECT_FALSE(m.try_lock_shared_until(t0 + 2ms));
    EXPECT_GE(std::chrono::steady_clock::now(), t0 + 2ms);
    EXPECT_FALSE(m.try_lock_until(std::chrono::system_clock::now() + 1ms));
    EXPECT_FALSE(m.try_lock_shared_until(t0)) << "over before it began";
    wait_group readers;
    for (int i = 0; i < 3; i++)
      readers.go([&] {
        EXPECT_TRUE(m.try_lock_shared_until(std::chrono::system_clock::now() + 1h));
        m.unlock_shared();
      });
    await_waiting(3, "shared mutex");
    m.unlock();
    readers.wait();
    EXPECT_TRUE(m.try_lock_until(t0)) << "free: it need not wait";
    m.unlock();
  });
}

TEST_F(Condition, ProducersAndConsumers) {
  mutex m;
  condition_variable more;
  std::vector<int> queue;
  bool over = false;
  long sum = 0;
  int n = scaled(20000);
  wait_group consumers, producers;
  for (int c = 0; c < 4; c++)
    consumers.go([&] {
      for (std::unique_lock hold(m);;) {
        more.wait(hold, [&] { return over || !queue.empty(); });
        if (queue.empty()) return;
        sum += queue.back();
        queue.pop_back();
      }
    });
  for (int p = 0; p < 2; p++)
    producers.go([&] {
      for (int i = 1; i <= n; i++) {
        {
          std::lock_guard hold(m);
          queue.push_back(i);
        }
        more.notify_one();
      }
    });
  producers.wait();
  {
    std::lock_guard hold(m);
    over = true;
  }
  more.notify_all();
  consumers.wait();
  EXPECT_EQ(sum, static_cast<long>(n) * (n + 1));
}

TEST_F(Condition, TimesOut_AndTheLockIsHeldAgain) {
  mutex m;
  condition_variable c;
  std::unique_lock hold(m);
  EXPECT_EQ(c.wait_for(hold, 2ms), std::cv_status::timeout);
  EXPECT_EQ(c.wait_for(hold, 0ms), std::cv_status::timeout);
  EXPECT_FALSE(m.try_lock());
  EXPECT_FALSE(c.wait_for(hold, 2ms, [] { return false; }));
  go([&] {
    std::lock_guard inner(m);
    c.notify_one();
  });
  EXPECT_EQ(c.wait_until(hold, std::chrono::steady_clock::now() + 1h), std::cv_status::no_timeout);
  EXPECT_FALSE(m.try_lock());
}

// The notifier destroys it at once; those it woke may not have left wait() yet.
TEST_F(Condition, DestroyedRightAfterNotifyAll) {
  for (int round = 0; round < scaled(2000); round++) {
    mutex m;
    auto c = std::make_unique<condition_variable>();
    int waiting = 0;
    wait_group w;
    for (int i = 0; i < 3; i++)
      w.go([&, cv = c.get()] {
        std::unique_lock hold(m);
        waiting++;
        if (round % 2) cv->wait_for(hold, 1h);
        else cv->wait(hold);
      });
    for (;;) {
      std::unique_lock hold(m);
      if (waiting == 3) {
        c->notify_all();
        break;
      }
      hold.unlock();
      yield();
    }
    c.reset();
    w.wait();
  }
}

TEST_F(Semaphore, BoundsAndCounts) {
  counting_semaphore<> s(3);
  std::atomic<int> in{0}, most{0};
  wait_group w;
  for (int g = 0; g < 16; g++)
    w.go([&, g] {
      for (int i = 0; i < scaled(2000); i++) {
        int n = 1 + (g + i) % 3;
        s.acquire(n);
        int now = in += n;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        if (i % 8 == 0) yield();
        in -= n;
        s.release(n);
      }
    });
  w.wait();
  EXPECT_LE(most, 3);
  EXPECT_TRUE(s.try_acquire(3));
  EXPECT_FALSE(s.try_acquire());
  s.release(3);
}

TEST_F(Semaphore, IsFifo_AndOneThatGivesUpLetsTheNextPass) {
  run([] {
    counting_semaphore<> s(1);
    chan<int> passed(2);
    auto [patience, ends] = with_cancel(background());
    go([&, &patience = patience] {
      EXPECT_THROW(s.acquire(5, patience), std::system_error);
      passed.send(5);
    });
    while (s.try_acquire()) { // until it stands in line
      s.release();
      yield();
    }
    EXPECT_FALSE(s.try_acquire()); // one is free, but it is not our turn
    go([&] {
      s.acquire();
      passed.send(1);
    });
    await_waiting(2, "semaphore");
    ends();
    EXPECT_EQ(*passed.recv() + *passed.recv(), 6);
    EXPECT_FALSE(s.try_acquire_for(1ms));
  });
}

TEST_F(Semaphore, Until_EndsAtItsTimeOfAnyClock_OrWithWhatItAskedFor) {
  run([] {
    counting_semaphore<> s(2);
    auto t0 = std::chrono::steady_clock::now();
    EXPECT_FALSE(s.try_acquire_until(t0 + 2ms, 3));
    EXPECT_GE(std::chrono::steady_clock::now(), t0 + 2ms);
    EXPECT_FALSE(s.try_acquire_until(std::chrono::system_clock::now() + 1ms, 3));
    EXPECT_TRUE(s.try_acquire_until(t0, 2)) << "free: it need not wait";
    EXPECT_FALSE(s.try_acquire_until(t0));
    wait_group w;
    w.go([&] { EXPECT_TRUE(s.try_acquire_until(std::chrono::steady_clock::now() + 1h, 3)); });
    await_waiting(1, "semaphore");
    s.release(3);
    w.wait();
    EXPECT_FALSE(s.try_acquire());
  });
}

TEST_F(Semaphore, Binary_IsALockThatAnybodyMayRelease) {
  static_assert(binary_semaphore::max() == 1);
  EXPECT_THROW(binary_semaphore(2), std::invalid_argument);
  binary_semaphore s(1);
  EXPECT_THROW(s.release(), std::logic_error);
  EXPECT_THROW(s.acquire(2), std::invalid_argument);
  long plain = 0;
  wait_group w;
  int n = scaled(2000);
  for (int g = 0; g < 8; g++)
    w.go([&] {
      for (int i = 0; i < n; i++) {
        s.acquire();
        plain++;
        if (i % 8 == 0) yield();
        s.release();
      }
    });
  w.wait();
  EXPECT_EQ(plain, 8L * n);
  EXPECT_TRUE(s.try_acquire());
  std::thread([&] { s.release(); }).join();
  EXPECT_TRUE(s.try_acquire_for(1h));
}

TEST_F(Semaphore, Misuse) {
  EXPECT_THROW(counting_semaphore<3>(4), std::invalid_argument);
  EXPECT_THROW(counting_semaphore<>(-1), std::invalid_argument);
  counting_semaphore<3> s(2);
  EXPECT_THROW(s.acquire(4), std::invalid_argument);
  EXPECT_THROW(s.release(-1), std::invalid_argument);
  EXPECT_THROW(s.release(2), std::logic_error);
  EXPECT_TRUE(s.try_acquire(2)); // nothing had changed
  EXPECT_FALSE(s.try_acquire());
  EXPECT_EQ(s.max(), 3);
}

TEST_F(Semaphore, AcquirerDestroysAtOnce) {
  for (int i = 0; i < scaled(20000); i++) {
    auto s = std::make_unique<binary_semaphore>(0);
    go([p = s.get()] { p->release(); });
    s->acquire();
  }
}

TEST_F(Latch, AllWait_OnStacks) {
  for (int i = 0; i < scaled(5000); i++) {
    latch l(3);
    for (int k = 0; k < 2; k++) go([&l] { l.count_down(); });
    l.arrive_and_wait();
    EXPECT_TRUE(l.try_wait());
  }
  EXPECT_THROW(latch(1).count_down(2), std::logic_error);
  EXPECT_THROW(latch(-1), std::invalid_argument);
}

TEST_F(Barrier, PhasesInStep_WithCompletionAndDrop) {
  long phases = 0, inside = 0;
  auto complete = [&]() noexcept { phases++, inside = 0; };
  barrier b(4, complete);
  std::atomic<long> steps{0};
  int rounds = scaled(2000);
  wait_group w;
  for (int g = 0; g < 4; g++)
    w.go([&, g] {
      for (int i = 0; i < rounds; i++) {
        if (g == 3 && i == rounds / 2) return b.arrive_and_drop();
        EXPECT_EQ(phases, i);
        steps++;
        b.arrive_and_wait();
        EXPECT_EQ(phases, i + 1);
      }
    });
  w.wait();
  EXPECT_EQ(phases, rounds);
  EXPECT_EQ(steps, 3L * rounds + rounds / 2);
  barrier<> one(1);
  auto token = one.arrive();
  one.wait(std::move(token));
  EXPECT_THROW((void)one.arrive(2), std::logic_error);
}

// The phase under way counts whoever drops out as arrived; the next ones expect fewer, down to nobody.
TEST_F(Barrier, ArriveAndDrop_EndsThePhase_AndLeavesFewerToExpect) {
  int phases = 0;
  auto complete = [&]() noexcept { phases++; };
  barrier b(3, complete);
  auto first = b.arrive();
  b.arrive_and_drop();
  EXPECT_EQ(phases, 0);
  b.arrive_and_drop(); // the last to arrive: it ends the phase
  EXPECT_EQ(phases, 1);
  b.wait(std::move(first));
  for (int i = 2; i < 5; i++) { // one is left
    b.arrive_and_wait();
    EXPECT_EQ(phases, i);
  }
  b.arrive_and_drop();
  EXPECT_EQ(phases, 5);
  EXPECT_THROW((void)b.arrive(), std::logic_error);
  EXPECT_THROW(b.arrive_and_drop(), std::logic_error);
  EXPECT_EQ(phases, 5);
}

TEST_F(Barrier, ArriveAndDrop_WakesThoseThatWait) {
  barrier<> b(3);
  wait_group w;
  for (int i = 0; i < 2; i++) w.go([&] { b.arrive_and_wait(); });
  await_waiting(2, "barrier");
  b.arrive_and_drop();
  w.wait();
  w.go([&] { b.arrive_and_wait(); });
  b.arrive_and_wait();
  w.wait();
}

TEST_F(Once, RunsOnce_AndAgainAfterAThrow) {
  once_flag flag;
  std::atomic<int> calls{0}, done{0};
  wait_group w;
  for (int g = 0; g < 50; g++)
    w.go([&] {
      for (;;) {
        try {
          call_once(
              flag,
              [&](int add) {
                yield();
                if ((calls += add) < 3) throw std::runtime_error("not yet");
              },
              1);
          break;
        } catch (const std::runtime_error&) {
        }
      }
      EXPECT_EQ(calls, 3);
      done++;
    });
  w.wait();
  EXPECT_EQ(done, 50);
}
} // namespace
