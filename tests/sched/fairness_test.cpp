// Nobody who can run waits for ever: how many turns of others a bystander waits, beside each kind of neighbour.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <thread>

#include "sched/core/fair.hpp"
#include "tests/support/compute.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/turn.hpp"

using namespace std::chrono_literals;

namespace {
// What sched/core/fair.cpp allows a goroutine of `ready` with three more before it. With a crowd: each may wait for one.
constexpr std::uint64_t bound = 256 * (3 + 1), in_crowd = 256 + grt::crowd + grt::ids_most + 256;

class Fair : public GrtTest {
protected:
  void SetUp() override {
    GrtTest::SetUp();
    procs_ = grt::set_procs(1);
  }
  void TearDown() override {
    grt::set_procs(procs_);
    GrtTest::TearDown();
  }
  struct longest {
    std::uint64_t any = 0, at_home = 0;
    void add(turn t) {
      any = std::max(any, t.waited);
      if (t.at_home) at_home = std::max(at_home, t.waited);
    }
  };
  // Runs the neighbours until a bystander has had its turns; the most switches it waited for one.
  longest bystander(int turns, const std::function<void(std::atomic<bool>&, grt::wait_group&)>& neighbours) {
    longest worst;
    grt::run([&] {
      std::atomic<bool> stop{false};
      grt::wait_group w;
      neighbours(stop, w);
      w.go([&] {
        for (int i = 0; i < turns; i++) worst.add(give_way());
        stop = true;
      });
      w.wait();
    });
    std::printf("waited for %llu switches at most\n", static_cast<unsigned long long>(worst.any));
    return worst;
  }

private:
  unsigned procs_ = 0;
};

void chatter(std::atomic<bool>& stop, grt::wait_group& w, std::chrono::microseconds each,
             std::atomic<std::uint64_t>& n) {
  grt::chan<int> ping, pong;
  w.go([=, &stop, &n] {
    while (!stop) {
      compute(each);
      n++;
      ping.send(1);
      pong.recv();
    }
    ping.close();
  });
  w.go([=, &n] {
    while (ping.recv()) {
      compute(each);
      n++;
      pong.send(1);
    }
  });
}

TEST_F(Fair, ChattyPair) {
  std::atomic<std::uint64_t> n{0};
  auto worst = bystander(scaled(200), [&](auto& stop, auto& w) { chatter(stop, w, 0us, n); });
  EXPECT_GT(worst.any, 1u);
  EXPECT_LE(worst.at_home, bound);
}

// A chain of 128 through `next` would be 256 ms of this: the slice is shared along it.
TEST_F(Fair, ChattyPairThatComputes_SharesOneSlice) {
  std::atomic<std::uint64_t> n{0};
  longest worst;
  grt::run([&] {
    std::atomic<bool> stop{false};
    grt::wait_group w;
    chatter(stop, w, 2ms, n);
    w.go([&] {
      for (int i = 0; i < 10; i++) worst.add(give_way([&] { return n.load(); }));
      stop = true;
    });
    w.wait();
  });
  std::printf("waited for %llu turns of 2 ms at most\n", static_cast<unsigned long long>(worst.any));
  EXPECT_LT(worst.at_home, 64u);
}

// The spawner has no scheduling point at all, but for what a hand-off makes of go(). The bystander may have lost its
// processor, too, so `any` has a bound, twice the other: it may stand in the global queue first.
TEST_F(Fair, SpawnerThatNeverBlocks) {
  std::atomic<std::uint64_t> spawned{0}, ran{0};
  auto worst = bystander(20, [&](auto& stop, auto& w) {
    w.go([&] {
      while (!stop)
        if (spawned - ran < 20000) {
          spawned++;
          w.go([&] { ran++; });
        }
    });
  });
  EXPECT_EQ(ran, spawned);
  EXPECT_GT(worst.any, 1u);
  EXPECT_LE(worst.at_home, 2 * in_crowd);
  EXPECT_LE(worst.any, 4 * in_crowd);
}

TEST_F(Fair, YieldLoops) {
  auto worst = bystander(scaled(1000), [](auto& stop, auto& w) {
    for (int i = 0; i < 100; i++)
      w.go([&] {
        while (!stop) grt::yield();
      });
  });
  EXPECT_GE(worst.any, 100u);
  EXPECT_LE(worst.at_home, 256u * (100 + 1)); // as a rule once each; a slice's end may let others go first
}

TEST_F(Fair, ThousandsOfTimersDueAtOnce) {
  int n = scaled(2000);
  auto worst = bystander(scaled(100), [n](auto& stop, auto& w) {
    for (int i = 0; i < n; i++)
      w.go([&] {
        while (!stop) grt::sleep_for(5ms);
      });
  });
  EXPECT_LE(worst.at_home,
            bound + 2u * static_cast<unsigned>(n)); // each of them once before it, and some twice
}

TEST_F(Fair, ThreadsThatInject_AreServed) {
  std::atomic<bool> stop{false};
  std::atomic<int> ran{0};
  grt::wait_group w;
  grt::run([&] {
    for (int i = 0; i < 4; i++)
      w.go([&] {
        while (!stop) grt::yield();
      });
    w.go([&] {
      while (!stop) grt::run([] {});
    });
  });
  for (int i = 0; i < scaled(200); i++) grt::run([&] { ran++; }); // from this thread: by the global queue
  stop = true;
  w.wait();
  EXPECT_EQ(ran, scaled(200));
}
} // namespace
