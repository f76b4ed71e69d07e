// tests/sched/slab_test.cpp - G slots are used again, whoever spawned and wherever it ended.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <cstdio>
#include <thread>

#include "sched/core/sched.hpp"
#include "sched/goroutine/slab.hpp"
#include "sched/monitor/scavenge.hpp"

namespace {
using namespace grt;
using Slab = GrtTest;

// A P keeps up to 2,048 of them: more than a quarter of these is a leak. Some at a time: each wait costs a turn of
// another thread where GRT_DEBUG=migrate wants one.
void expect_reuse() {
  constexpr int at_once = 50;
  const int n = 10000 * static_cast<int>(procs() + 1);
  auto spawn = [](int many) {
    for (int i = 0; i < many; i += at_once) {
      wait_group w;
      for (int k = 0; k < at_once; k++) w.go([] {});
      w.wait();
    }
  };
  spawn(n / 10);
  G* end = slab_end();
  spawn(n);
  EXPECT_LT(slab_end() - end, n / 4);
}

TEST_F(Slab, SpawnedByAThreadOfTheProgram) { expect_reuse(); }
TEST_F(Slab, SpawnedByAGoroutine) { run(expect_reuse); }
// Pages of free slots go while others take slots, and come back as what they were: free.
TEST_F(Slab, PagesGoWhileOthersSpawn) {
  std::atomic<bool> stop{false};
  std::thread scavenger([&] {
    while (!stop) debug::release_memory();
  });
  std::atomic<std::uint64_t> sum{0};
  std::uint64_t expected = 0;
  G* end = nullptr;
  const int n = scaled(20000);
  for (int round = 0; round < 12; round++) {
    run([&] {
      wait_group all;
      chan<void> gate;
      for (int i = 0; i < n; i++)
        all.go([&, i, gate] {
          if (i % 2) gate.recv();
          sum += static_cast<unsigned>(i);
        });
      gate.close();
      all.wait();
    });
    for (int i = 0; i < n; i++) expected += static_cast<unsigned>(i);
    if (round == 4) end = slab_end();
  }
  stop = true;
  scavenger.join();
  EXPECT_EQ(sum, expected);
  EXPECT_LT(slab_end() - end, n + 16384) << "slots whose pages went are taken before new ones are made";
}
// A pass that has stopped in the middle of a sort, at each of its steps, and somebody who asks for a whole one then.
TEST_F(Slab, ReleaseMemoryAmidASort_KeepsThoseAlive) {
#ifdef GRT_TEST_SLOW
  GTEST_SKIP() << "as few goroutines as these builds can have are not worth a sort";
#endif
  const int n = scaled(24000);
  int sorts = 0;
  for (int stop = 0; stop < 10; stop++) {
    std::atomic<int> alive{0};
    run([&] {
      wait_group rest, half;
      chan<void> first, second;
      for (int i = 0; i < n; i++) {
        auto& group = i % 2 ? rest : half;
        group.go([&alive, gate = i % 2 ? second : first] {
          gate.recv();
          alive++;
        });
      }
      first.close();
      half.wait();
      for (int i = 0; i < 20000 && !slab_sorting(); i++) scavenge(0);
      sorts += slab_sorting();
      for (int i = 0; i < stop; i++) scavenge(0);
      debug::release_memory();
      second.close();
      rest.wait();
    });
    EXPECT_EQ(alive, n);
  }
  EXPECT_GT(sorts, 0) << "none of the ten was in a sort";
}
// What a thread waits on is a slot, too.
TEST_F(Slab, OfThreadsThatHaveEnded) {
  std::thread([] { self(); }).join();
  G* end = slab_end();
  for (int i = 0; i < 1000; i++) std::thread([] { self(); }).join();
  EXPECT_LT(slab_end() - end, 100);
}
// A thread's slot is a goroutine's next; TSan must not take the one's waits for races with the other's.
TEST_F(Slab, OfThreads_UsedByGoroutines) {
  for (int i = 0; i < 100; i++) {
    chan<int> c;
    std::thread t([=] { c.send(1); });
    EXPECT_EQ(c.recv(), 1);
    t.join();
    go([=] { c.send(2); });
    EXPECT_EQ(c.recv(), 2);
  }
}
} // namespace
