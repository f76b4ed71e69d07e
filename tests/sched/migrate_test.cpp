// tests/sched/migrate_test.cpp - GRT_DEBUG=migrate does what it says: nearly every switch ends on another thread.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <sys/syscall.h>
#include <unistd.h>

using namespace grt;
using namespace std::chrono_literals;

namespace {
class Migrate : public GrtTest {
  void SetUp() override {
    const char* s = std::getenv("GRT_DEBUG");
    if (!s || !std::strstr(s, "migrate")) GTEST_SKIP() << "needs GRT_DEBUG=migrate";
    if (procs() < 2) GTEST_SKIP() << "one processor";
    GrtTest::SetUp();
  }
};

long tid() { return syscall(SYS_gettid); }

struct count {
  std::atomic<int> switches{0}, moved{0};
  template <class F> void operator()(F f) {
    auto t0 = std::chrono::steady_clock::now();
    long before = tid();
    f();
    bool elsewhere = tid() != before;
    // The others had 10 ms to come and take it: a machine that does not run them so long may have none to come.
    if (!elsewhere && std::chrono::steady_clock::now() - t0 >= 10ms) return;
    switches++;
    moved += elsewhere;
  }
};

TEST_F(Migrate, NearlyEverySwitchChangesTheThread) {
  for (int goroutines : {1, 2, 7, 40}) {
    count yields, sleeps, parks;
    run([&] {
      wait_group w;
      chan<int> c;
      for (int g = 0; g < goroutines; g++)
        w.go([&, g] {
          for (int i = 0; i < scaled(200); i++) {
            yields([] { yield(); });
            sleeps([] { sleep_for(1us); });
            if (goroutines % 2 == 0) parks([&] { g % 2 ? c.send(i) : (void)c.recv(); });
          }
        });
      w.wait();
    });
    EXPECT_GE(yields.moved, yields.switches * 8 / 10) << goroutines;
    EXPECT_GE(sleeps.moved, sleeps.switches * 8 / 10) << goroutines;
    if (goroutines % 2 == 0) {
      EXPECT_GE(parks.moved, parks.switches * 4 / 10) << "every other one finds its partner there: " << goroutines;
    }
  }
}
} // namespace
