// A goroutine that was handed over begins elsewhere if its waker computes on; a pair that only plays ping-pong does not
// wake sleepers all the time.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "sched/core/sched.hpp"
#include "tests/support/fixture.hpp"

namespace {
class Idle : public GrtTest {};

// The one that computes has no surplus, and it never comes back to its scheduler. The main
// thread waits outside the runtime: nothing is blocked there that would make the sleepers look for a deadlock.
TEST_F(Idle, OneHandedOverByAGoroutineThatComputesForEverBegins) {
  grt::chan<int> c;
  std::atomic<bool> begun{false}, over{false};
  grt::go([&, c] {
    grt::go([&, c] {
      c.recv();
      begun = true;
    });
    grt::sleep_for(std::chrono::milliseconds(1)); // it waits in recv, and the other processors have nothing to do
    while (grt::procs() > 1 && !grt::need_watch.load()) {
    }
    c.send(1);
    while (!begun) {
    }
    over = true;
  });
  while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST_F(Idle, PingPong_WakesSeldom) {
  if (std::getenv("GRT_DEBUG")) GTEST_SKIP() << "there a pair is parted at each switch";
  grt::run([&] {
    grt::chan<int> there, back;
    grt::wait_group partner;
    partner.go([=] {
      for (int v : there) back.send(v);
    });
    // Each pause is twice as long as the last, from 5 ms on; without them it is 60 wakes and more. A machine that takes
    // a core away makes the pair part now and then: whoever was woken steals one of it, and the pauses begin anew. The
    // calmest time counts; without a steal it is calm enough.
    std::uint64_t wakes = 0, steals = ~std::uint64_t{0};
    for (int time = 0; time < 5 && steals; time++) {
      auto before = grt::debug::read_metrics();
      auto t0 = std::chrono::steady_clock::now(), now = t0;
      for (int i = 0; now < t0 + std::chrono::milliseconds(400); i++) {
        there.send(i);
        EXPECT_EQ(back.recv(), i);
        if (i % 64 == 0) now = std::chrono::steady_clock::now();
      }
      auto after = grt::debug::read_metrics();
      if (after.steals - before.steals >= steals) continue;
      steals = after.steals - before.steals;
      wakes = after.wakes - before.wakes;
    }
    std::printf("%llu wakes, %llu steals\n", static_cast<unsigned long long>(wakes),
                static_cast<unsigned long long>(steals));
    EXPECT_LE(wakes, 25 + 8 * steals);
    there.close();
    partner.wait();
  });
}
} // namespace
