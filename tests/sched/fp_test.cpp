// tests/sched/fp_test.cpp - attr::fp_env: what such a goroutine sets stays its own, wherever it runs.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <cfenv>
#include <thread>

using namespace grt;
using namespace std::chrono_literals;

namespace {
using FpEnv = GrtTest;
const attr own{.fp_env = true};

// What fenv says, and what the units do: SSE or AArch64's, and x87 for long double on x86-64.
bool in_mode(int mode) {
  volatile float a = 1, b = 3, minus_a = -1; // volatile throughout: nothing for the compiler to fold
  volatile long double x = 1, y = 3, minus_x = -1;
  volatile float up = a / b, down = minus_a / b; // of the same size only when rounded to nearest, or towards zero
  volatile long double lup = x / y, ldown = minus_x / y;
  bool directed = mode == FE_UPWARD || mode == FE_DOWNWARD;
  return fegetround() == mode && (up != -down) == directed && (lup != -ldown) == directed &&
         (!directed || (up > -down) == (mode == FE_UPWARD));
}

TEST_F(FpEnv, KeptAcrossSwitches_NobodyElseSeesIt) {
  run([] {
    wait_group w;
    std::atomic<int> wrong{0};
    std::atomic<bool> stop{false};
    wait_group plain;
    for (int g = 0; g < 8; g++)
      plain.go([&] { // no environment of their own
        for (int i = 0; !stop; i++) {
          wrong += !in_mode(FE_TONEAREST);
          if (i % 2) yield();
          else sleep_for(1us);
        }
      });
    chan<int> c;
    for (int g = 0; g < 16; g++)
      w.go(own, [&, g] {
        wrong += !in_mode(FE_TONEAREST); // its spawner's
        const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST};
        int mode = modes[g % 4];
        fesetround(mode);
        for (int i = 0; i < scaled(300); i++) {
          switch (i % 4) {
          case 0: yield(); break;
          case 1: sleep_for(1us); break;
          case 2: g % 2 ? c.send(1) : (void)c.recv(); break;
          case 3: select(on_timeout(1us), on_recv(chan<int>())); break;
          }
          wrong += !in_mode(mode);
          if (i == 100 && g % 4 == 0) this_goroutine::pin();
          if (i == 200 && g % 4 == 0) this_goroutine::unpin();
        }
      });
    w.wait();
    stop = true;
    plain.wait();
    EXPECT_EQ(wrong, 0);
    EXPECT_TRUE(in_mode(FE_TONEAREST));
  });
}

TEST_F(FpEnv, BeginsWithItsSpawners_AFreshGoroutineDoesNot) {
  run(own, [] {
    fesetround(FE_UPWARD);
    EXPECT_EQ(run(own, [] { return fegetround(); }), FE_UPWARD);
    EXPECT_EQ(run([] { return fegetround(); }), FE_TONEAREST);
    EXPECT_EQ(spawn(attr{.pinned = true}, [] { return fegetround(); }).get(), FE_TONEAREST); // on a new thread
    EXPECT_EQ(spawn(attr{.pinned = true, .fp_env = true}, [] { return fegetround(); }).get(), FE_UPWARD);
    EXPECT_EQ(fegetround(), FE_UPWARD);
  });
  std::thread([] {
    fesetround(FE_DOWNWARD);
    EXPECT_EQ(run(own, [] { return fegetround(); }), FE_DOWNWARD);
    EXPECT_EQ(run([] { return fegetround(); }), FE_TONEAREST);
    EXPECT_EQ(fegetround(), FE_DOWNWARD);
  }).join();
}

TEST_F(FpEnv, EndingLeavesNothingBehind_ByReturnAndByExit) {
  run([] {
    for (int i = 0; i < 100; i++) {
      spawn(own, [] { fesetround(FE_UPWARD); }).join();
      EXPECT_EQ(fegetround(), FE_TONEAREST);
      spawn(own, [] {
        fesetround(FE_DOWNWARD);
        grt::exit();
      }).join();
      EXPECT_EQ(run([] { return fegetround(); }), FE_TONEAREST);
    }
  });
}

#if defined(__x86_64__)
TEST_F(FpEnv, FlushToZeroAndUnmaskedTrapsToo) {
  run(own, [] {
    unsigned csr = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(csr | 0x8000); // flush to zero
    feenableexcept(FE_DIVBYZERO);
    for (int i = 0; i < 20; i++) {
      yield();
      EXPECT_EQ(run([] { return (__builtin_ia32_stmxcsr() & 0x8000) | static_cast<unsigned>(fegetexcept()); }), 0u);
      run([] { // with a flag that must not trap here
        volatile long double zero = 0;
        volatile long double r = 1 / zero;
        (void)r;
      });
      EXPECT_TRUE(__builtin_ia32_stmxcsr() & 0x8000);
      EXPECT_EQ(fegetexcept(), FE_DIVBYZERO);
      volatile long double one = 1;
      EXPECT_EQ(one + 1, 2);
    }
    fedisableexcept(FE_DIVBYZERO);
  });
}
#endif
} // namespace
