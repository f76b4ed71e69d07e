// tests/sched/poller_test.cpp - the port to a poller, with a small one behind it.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/support/poller.hpp"
#include "tests/support/slow.hpp"

namespace {
using namespace std::chrono_literals;

class Poller : public GrtTest {
protected:
  void SetUp() override {
    GrtTest::SetUp();
    if (room.fd < 0) {
      use_room();
    }
  }
  void TearDown() override {
    EXPECT_EQ(room.too_many, 0u) << "two polled at once";
    EXPECT_EQ(room.waiting, 0u);
    GrtTest::TearDown();
  }
};

TEST_F(Poller, BringsBackWhatItIsFiredFor) {
  const int rounds = scaled(2000);
  grt::wait_group all;
  for (int i = 0; i < 4; i++)
    all.go([rounds] {
      for (int k = 0; k < rounds; k++) await_fire();
    });
  std::thread outside([rounds] {
    for (int k = 0; k < 4 * rounds; k++)
      while (!fire_one()) std::this_thread::yield();
  });
  all.wait();
  outside.join();
  EXPECT_GT(room.polls, 0u);
}

// The leader sleeps in the poller meanwhile.
TEST_F(Poller, TimersAndPushesReachTheOneThatPolls) {
  grt::wait_group waits, all;
  waits.go(await_fire);
  grt::chan<int> c;
  all.go([] {
    for (int i = 0; i < scaled(100); i++) grt::sleep_for(1ms);
  });
  all.go([c] {
    for (int i = 0; i < scaled(300); i++) EXPECT_EQ(c.recv(), i);
  });
  std::thread outside([c] {
    for (int i = 0; i < scaled(300); i++) {
      c.send(i);
      std::this_thread::sleep_for(100us); // so that all are asleep again now and then
    }
  });
  all.wait();
  outside.join();
  while (!fire_one()) std::this_thread::yield();
  waits.wait();
}

// The poller is armed while everybody sleeps on a futex, or is about to.
TEST_F(Poller, ArmedWhileTheLeaderSleeps_IsNoticed) {
  for (int i = 0; i < scaled(50); i++) {
    grt::wait_group w;
    std::this_thread::sleep_for(1ms); // everybody sleeps, on a futex: nothing is armed
    w.go(await_fire);
    while (!fire_one()) std::this_thread::yield();
    w.wait();
  }
}
} // namespace
