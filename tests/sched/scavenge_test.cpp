// Memory comes back: grown stacks of parked goroutines, free windows; and nobody notices but the kernel.
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include <sys/mman.h>

#include "sched/monitor/pace.hpp"
#include "sched/monitor/scavenge.hpp"
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

// The windows that a test's goroutines have had. What else the process holds is nobody's business here: threads,
// slots and heap come and go, and the kernel makes huge pages as it likes.
class windows {
public:
  void add_mine() {
    auto b = this_goroutine::stack();
    std::lock_guard hold(lock_);
    all_.emplace(static_cast<char*>(b.low), static_cast<char*>(b.high));
  }
  std::size_t in_memory() const {
    std::size_t pages = 0;
    for (auto [low, high] : all_) {
      std::vector<unsigned char> there(static_cast<std::size_t>(high - low) / 4096);
      if (mincore(low, static_cast<std::size_t>(high - low), there.data())) ADD_FAILURE() << "mincore";
      for (unsigned char p : there) pages += p & 1;
    }
    return pages * 4096;
  }

private:
  mutex lock_;
  std::map<char*, char*> all_;
};

// Until at most `most` bytes of them are in memory. Ps give back what they put by when they look around.
template <class F> void expect_less(const windows& all, std::size_t most, F give_back) {
  for (int i = 0; i < 10000 && all.in_memory() > most; i++) {
    give_back();
    sleep_for(1ms);
  }
  EXPECT_LE(all.in_memory(), most);
}

// n goroutines have grown, all at once, and ended.
void grow_and_end(windows& used, int n, const attr& a) {
  wait_group all, grown;
  chan<void> gate;
  grown.add(n);
  for (int i = 0; i < n; i++)
    all.go(a, [&] {
      used.add_mine();
      descend(grown_bytes, 1, [&] {
        grown.done();
        gate.recv();
      });
    });
  grown.wait();
  gate.close();
  all.wait();
}

class Scavenge : public GrtTest {
#if defined(GRT_TEST_EMULATED)
  void SetUp() override { GTEST_SKIP() << "qemu-user does not say which pages are in memory"; }
#endif
};

TEST_F(Scavenge, GrownStacksOfParkedGoroutinesShrink_AndRunOn) {
  run([] {
    std::size_t n = static_cast<std::size_t>(scaled(300));
    windows all;
    chan<void> gate;
    wait_group parked, done;
    std::atomic<unsigned> bad{0};
    parked.add(static_cast<int>(n));
    for (std::size_t i = 0; i < n; i++)
      done.go([&, i] {
        unsigned seed = static_cast<unsigned>(i);
        all.add_mine();
        bad += !descend(grown_bytes, seed, [] {});
        bad += !descend(8 << 10, seed, [&] { // something alive above what is dropped
          parked.done();
          gate.recv();
          bad += !descend(grown_bytes, seed, [] {});
        });
      });
    parked.wait();
    expect_less(all, n * (32 << 10), debug::release_memory);
    gate.close();
    done.wait();
    EXPECT_EQ(bad, 0u);
  });
}

TEST_F(Scavenge, FreeWindowsLoseTheirPages) {
  run([] {
    std::size_t n = static_cast<std::size_t>(scaled(300));
    for (std::size_t stack_max : {std::size_t{0}, std::size_t{1} << 20}) {
      windows used;
      grow_and_end(used, static_cast<int>(n), {.stack_max = stack_max});
      expect_less(used, (2 << 20) + n * canary_bytes(), debug::release_memory);
    }
  });
}

// As a program sees it that does nothing: passes once in a while, none of which takes long.
TEST_F(Scavenge, PassByPass) {
  run([] {
    windows used;
    grow_and_end(used, scaled(300), {});
    expect_less(used, 2 << 20, [] {
      while (scavenge() == pass::under_way) yield();
    });
  });
}

// Nobody calls it, and nobody runs any more.
TEST_F(Scavenge, ByItself_WhenAllSleep) {
  auto usual = pace.pass_ns.exchange(50'000'000);
  windows used;
  run([&] {
    wait_group all;
    for (int i = 0; i < scaled(300); i++)
      all.go([&] {
        used.add_mine();
        descend(grown_bytes, 1, [] { yield(); });
      });
    all.wait();
  });
  while (used.in_memory() > 2 << 20) std::this_thread::sleep_for(10ms); // the time limit ends this
  pace.pass_ns = usual;
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
        for (int i = 0, rounds = scaled(200); i < rounds; i++) {
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
