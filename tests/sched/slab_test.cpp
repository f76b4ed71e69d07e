// tests/sched/slab_test.cpp - G slots are used again, whoever spawned and wherever it ended.
#include "tests/support/fixture.hpp"

#include <thread>

#include "sched/sched.hpp"
#include "sched/slab.hpp"

namespace {
using namespace grt;
using Slab = GrtTest;

// A P keeps up to 2,048 of them, so eight keep 16,384: more is a leak.
void expect_reuse(void (*one)()) {
  const int n = 100000;
  for (int i = 0; i < n / 10; i++) one();
  G* end = slab_end();
  for (int i = 0; i < n; i++) one();
  EXPECT_LT(slab_end() - end, n / 4);
}
void spawn_one() {
  wait_group w;
  w.go([] {});
  w.wait();
}

TEST_F(Slab, SpawnedByAThreadOfTheProgram) { expect_reuse(spawn_one); }
TEST_F(Slab, SpawnedByAGoroutine) {
  run([] { expect_reuse(spawn_one); });
}
// What a thread waits on is a slot, too.
TEST_F(Slab, OfThreadsThatHaveEnded) {
  std::thread([] { self(); }).join();
  G* end = slab_end();
  for (int i = 0; i < 1000; i++) std::thread([] { self(); }).join();
  EXPECT_LT(slab_end() - end, 100);
}
} // namespace
