// Memory comes back: grown stacks of parked goroutines, free windows; and nobody notices but the kernel.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "sched/scavenge.hpp"
#include "tests/support/fixture.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;

#ifdef GRT_TEST_SANITIZED
constexpr std::size_t grown_bytes = 60 << 10; // frames are larger, and each is marked in the shadow
#else
constexpr std::size_t grown_bytes = 200 << 10;
#endif

// Fills `left` bytes of stack, calls f at the bottom, and finds everything as it was on the way back.
template <class F> GRT_DETAIL_NOINLINE bool descend(std::size_t left, unsigned seed, F&& f) {
  volatile unsigned frame[128];
  for (unsigned i = 0; i < 128; i++) frame[i] = seed + i;
  bool good = true;
  if (left > sizeof frame) good = descend(left - sizeof frame, seed * 3 + 1, f);
  else f();
  for (unsigned i = 0; i < 128; i++) good &= frame[i] == seed + i;
  return good;
}

// debug::stack_bytes() asks about every window ever made, and tests before these make hundreds of thousands.
std::size_t in_memory() {
#ifdef GRT_TEST_SLOW // few windows, and shadow memory that stays
  return debug::stack_bytes();
#else
  std::size_t size = 0, resident = 0;
  std::FILE* f = std::fopen("/proc/self/statm", "r");
  if (!f || std::fscanf(f, "%zu %zu", &size, &resident) != 2) ADD_FAILURE() << "statm";
  if (f) std::fclose(f);
  return resident * 4096;
#endif
}

// Until at most `most` bytes of stack are in memory. Ps give back what they put by when they look around.
bool comes_down_to(std::size_t most) {
  for (int i = 0; i < 300; i++) {
    debug::release_memory();
    if (in_memory() <= most) return true;
    sleep_for(1ms);
  }
  ADD_FAILURE() << in_memory() << " bytes in memory, not " << most;
  return false;
}

// What earlier tests left is gone.
void calm() {
  for (int i = 0; i < 10; i++) {
    debug::release_memory();
    sleep_for(1ms);
  }
}

class Scavenge : public GrtTest {
#if defined(GRT_TEST_EMULATED)
  void SetUp() override { GTEST_SKIP() << "qemu-user does not say which pages are in memory"; }
#endif
};

TEST_F(Scavenge, GrownStacksOfParkedGoroutinesShrink_AndRunOn) {
  run([] {
    std::size_t n = static_cast<std::size_t>(scaled(1000));
    calm();
    std::size_t before = in_memory();
    chan<void> gate;
    wait_group parked, done;
    std::atomic<unsigned> bad{0};
    parked.add(static_cast<int>(n));
    for (std::size_t i = 0; i < n; i++)
      done.go([&, i] {
        unsigned seed = static_cast<unsigned>(i);
        bad += !descend(grown_bytes, seed, [] {});
        bad += !descend(8 << 10, seed, [&] { // something alive above what is dropped
          parked.done();
          gate.recv();
          bad += !descend(grown_bytes, seed, [] {});
        });
      });
    parked.wait();
    std::size_t grown = in_memory();
    EXPECT_GE(grown, before + n * grown_bytes);
    EXPECT_TRUE(comes_down_to(before + n * (32 << 10)));
    gate.close();
    done.wait();
    EXPECT_EQ(bad, 0u);
  });
}

TEST_F(Scavenge, FreeWindowsLoseTheirPages) {
  run([] {
    std::size_t n = static_cast<std::size_t>(scaled(1000));
    for (std::size_t stack_max : {std::size_t{0}, std::size_t{1} << 20}) {
      calm();
      std::size_t before = in_memory();
      wait_group all;
      chan<void> gate;
      for (std::size_t i = 0; i < n; i++)
        all.go(attr{.stack_max = stack_max}, [=] { descend(grown_bytes, 1, [&] { gate.recv(); }); });
      while (in_memory() < before + n * grown_bytes) sleep_for(1ms);
      gate.close();
      all.wait();
      EXPECT_TRUE(comes_down_to(before + (2 << 20) + n * canary_bytes()));
    }
  });
}

// As a program sees it that does nothing: passes once in a while, none of which takes long.
TEST_F(Scavenge, PassByPass) {
  run([] {
    calm();
    std::size_t n = static_cast<std::size_t>(scaled(1000)), before = in_memory();
    wait_group all;
    for (std::size_t i = 0; i < n; i++) all.go([] { descend(grown_bytes, 1, [] { sleep_for(1ms); }); });
    all.wait();
    for (int i = 0; i < 300 && in_memory() > before + (4 << 20); i++) {
      while (scavenge()) yield();
      sleep_for(1ms);
    }
    EXPECT_LE(in_memory(), before + (4 << 20));
  });
}

// Wakes against drops. What a frame holds must be there when its goroutine comes back to it.
TEST_F(Scavenge, WhileGoroutinesParkAndWake) {
  std::atomic<bool> stop{false};
  std::atomic<unsigned> bad{0}, passes{0};
  std::thread scavenger([&] {
    while (!stop) debug::release_memory(), passes++;
  });
  run([&] {
    wait_group all;
    constexpr unsigned pairs = 100;
    for (unsigned p = 0; p < pairs; p++) {
      chan<unsigned> there, back;
      all.go([=, &bad] {
        for (unsigned v; auto got = there.recv();) {
          v = *got;
          bad += !descend((v * 7919) % (32 << 10), v, [&] { back.send(v); });
        }
      });
      all.go([=, &bad] {
        for (int i = 0, rounds = scaled(500); i < rounds; i++) {
          unsigned v = static_cast<unsigned>(i) * pairs + p, got = 0;
          bad += !descend((v * 104729) % (32 << 10), v, [&] {
            there.send(v);
            got = back.recv().value_or(v + 1);
          });
          bad += got != v;
        }
        there.close();
      });
    }
    all.wait();
  });
  stop = true;
  scavenger.join();
  EXPECT_EQ(bad, 0u);
  EXPECT_GT(passes, 0u);
}

TEST_F(Scavenge, WhilePinnedSleepingAndSelectingOnesDo) {
  std::atomic<bool> stop{false};
  std::atomic<unsigned> bad{0};
  std::thread scavenger([&] {
    while (!stop) debug::release_memory();
  });
  run([&] {
    wait_group all;
    for (int k = 0; k < 20; k++)
      all.go(attr{.stack_max = k % 4 ? std::size_t{0} : std::size_t{1} << 20, .pinned = k % 5 == 0}, [&bad, k] {
        chan<int> never;
        mutex m;
        for (int i = 0, rounds = scaled(200); i < rounds; i++)
          bad += !descend(24 << 10, static_cast<unsigned>(i + k), [&] {
            switch (i % 3) {
            case 0: sleep_for(10us); break;
            case 1: select(on_recv(never), on_timeout(10us)); break;
            case 2: this_goroutine::pin(), yield(), this_goroutine::unpin(); break;
            }
          });
      });
    all.wait();
  });
  stop = true;
  scavenger.join();
  EXPECT_EQ(bad, 0u);
}
} // namespace
