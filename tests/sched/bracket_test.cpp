// The bracket against takes, on the machine itself: an owner that enters and leaves as fast as it can, a thief that
// takes as often. Both add to one plain number in between; none may be lost. The same code with its fence taken out
// must lose some, or this could not find anything.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "sched/core/sched.hpp"
#include "tests/support/fixture.hpp"

namespace {
using namespace grt;
using protocol::site;

struct without_fence : protocol::hardware {
  static void all_threads_fence(site) noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }
};

struct outcome {
  std::uint64_t entered = 0, taken = 0, refused = 0, counted = 0;
};

template <class A> outcome race(std::uint64_t takes_max, bool until_lost) {
  auto m = std::make_unique<M>();
  m->in = 0;
  spin_lock thieves;
  outcome o;
  std::uint64_t n = 0; // a P's data
  auto* counter = const_cast<volatile std::uint64_t*>(&n);
  std::atomic<bool> begun{false}, stop{false};
  std::atomic<std::uint64_t> entered{0};
  std::thread owner([&] {
    std::uint64_t mine = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      for (int i = 0; i < 100; i++) {
        if (!protocol::enter<A>(m.get()))
          (void)protocol::answer<A>(
              m.get(), [] {}, [](lost_state) {});
        *counter = *counter + 1;
        protocol::leave<A>(m.get());
        mine++;
      }
      begun.store(true, std::memory_order_relaxed);
    }
    entered = mine;
  });
  while (!begun.load(std::memory_order_relaxed)) std::this_thread::yield();
  for (std::uint64_t i = 0; i < takes_max; i++) {
    if (!protocol::seize<A>(m.get(), lost_state::free, thieves)) continue;
    bool mine = protocol::shut_out<A>(m.get());
    if (mine) {
      // Long enough for an owner that is inside all the same to show.
      for (int k = 0; k < 20; k++) {
        *counter = *counter + 1;
        o.taken++;
      }
    } else {
      o.refused++;
    }
    protocol::let_go<A>(m.get(), mine);
    if (until_lost && i % 64 == 0) std::this_thread::yield();
  }
  stop = true;
  owner.join();
  o.entered = entered;
  o.counted = n;
  return o;
}

std::uint64_t rounds(std::uint64_t n) {
  if (const char* s = std::getenv("GRT_TEST_ROUNDS")) return std::strtoull(s, nullptr, 10);
  return static_cast<std::uint64_t>(scaled(static_cast<int>(n)));
}

#if !defined(__SANITIZE_THREAD__)
// A membarrier with a busy sibling costs 1 to 9 us; GRT_TEST_ROUNDS says how many takes.
TEST(Bracket, TakesLoseNoUpdate) {
  grt::procs(); // membarrier is ready
  outcome o = race<protocol::hardware>(rounds(200000), false);
  std::printf("%llu brackets, %llu takes, %llu refused\n", static_cast<unsigned long long>(o.entered),
              static_cast<unsigned long long>(o.taken / 20), static_cast<unsigned long long>(o.refused));
  EXPECT_EQ(o.counted, o.entered + o.taken);
  EXPECT_GT(o.taken, 0u);
  EXPECT_GT(o.entered, 0u);
}

#if defined(__x86_64__) && !defined(GRT_TEST_SLOW) // the host's own store buffer is needed
TEST(Bracket, WithoutTheFence_UpdatesAreLost) {
  grt::procs();
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "one core has one order";
  for (int tries = 1;; tries++) { // the time limit ends this: then TakesLoseNoUpdate could not find anything either
    outcome o = race<without_fence>(10000, true);
    if (o.counted == o.entered + o.taken) continue;
    std::printf("%lld lost, at try %d\n", static_cast<long long>(o.entered + o.taken - o.counted), tries);
    break;
  }
}
#endif
#endif
} // namespace
