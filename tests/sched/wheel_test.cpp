// tests/sched/wheel_test.cpp - the timer wheel against a sorted list.
#include <algorithm>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <vector>

#include "sched/goroutine/g.hpp"
#include "sched/time/wheel.hpp"

namespace {
using grt::wheel;
std::vector<std::uint64_t>* fired;
struct node : grt::timer_node {
  std::uint64_t when = 0;
};
grt::G* note(grt::timer_node* n) {
  fired->push_back(static_cast<node*>(n)->when);
  return nullptr;
}

class Wheel : public testing::Test {
protected:
  std::vector<std::uint64_t> got;
  std::unique_ptr<wheel> w = std::make_unique<wheel>();
  grt::G* out = nullptr;
  void SetUp() override { fired = &got; }
  void arm(node& n, std::uint64_t when, std::uint64_t now) {
    n.fire = note;
    n.when = when;
    w->insert(&n, when, now);
  }
};

TEST_F(Wheel, NeverFiresEarly_AndAtMostOneTickLate) {
  for (std::uint64_t when : {1ull, 1023ull, 1024ull, 65537ull, 5'000'000ull, 70'000'000'000ull, 5'000'000'000'000ull}) {
    got.clear();
    node n;
    arm(n, when, 0);
    w->advance(when - 1, &out);
    EXPECT_TRUE(got.empty()) << when;
    w->advance(when + 2048, &out);
    EXPECT_EQ(got, std::vector<std::uint64_t>{when});
    w = std::make_unique<wheel>();
  }
}

// A periodic node arms itself again while it fires, on a clock that may have run on since advance() read it: for every
// distance, the wheel goes on from there and comes to an end.
struct periodic : grt::timer_node {
  wheel* w = nullptr;
  std::uint64_t late = 0, fired = 0;
};
TEST_F(Wheel, ANodeThatArmsItselfAgainWhileFiring) {
  for (std::uint64_t late = 0; late < 5000; late++) {
    w = std::make_unique<wheel>();
    periodic n;
    n.w = w.get();
    n.late = late << wheel::tick_shift;
    n.fire = [](grt::timer_node* t) -> grt::G* {
      auto* n = static_cast<periodic*>(t);
      n->fired++;
      std::uint64_t now = (n->tick << wheel::tick_shift) + n->late;
      n->w->insert(n, now + 1, now);
      return nullptr;
    };
    w->insert(&n, 1'000'000, 0);
    w->advance(1'001'000, &out);
    EXPECT_EQ(n.fired, 1u) << late;
    EXPECT_EQ(w->armed, 1u);
  }
}

TEST_F(Wheel, RandomInsertRemoveAdvance_AgreesWithSortedList) {
  std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  std::vector<std::unique_ptr<node>> nodes;
  for (int i = 0; i < 500; i++) nodes.push_back(std::make_unique<node>());
  std::uint64_t now = 1'000'000'000;
  for (int step = 0; step < 200'000; step++) {
    node& n = *nodes[rng() % nodes.size()];
    switch (rng() % 4) {
    case 0:
    case 1:
      if (!n.link) arm(n, now + (rng() >> (rng() % 40 + 20)), now);
      break;
    case 2: {
      bool armed = n.link != nullptr;
      EXPECT_EQ(w->remove(&n), armed);
      EXPECT_EQ(n.link, nullptr);
      break;
    }
    default:
      now += rng() >> (rng() % 40 + 24);
      got.clear();
      w->advance(now, &out);
      EXPECT_TRUE(std::all_of(got.begin(), got.end(), [&](std::uint64_t t) { return t <= now; }));
      for (auto& m : nodes) {
        if (m->link) {
          EXPECT_GT(m->when + 1024, now) << "left behind";
        }
      }
      if (w->used) {
        std::uint64_t least = ~0ull;
        for (auto& m : nodes) {
          if (m->link) least = std::min(least, m->when);
        }
        EXPECT_LE(w->next_ns.load(), least + 1024) << "would sleep past it";
      }
    }
  }
}

TEST_F(Wheel, Absorb_KeepsDeadlines) {
  wheel other;
  node a, b;
  arm(a, 10'000'000, 0);
  b.fire = note;
  b.when = 20'000'000;
  other.insert(&b, b.when, 0);
  w->absorb(other, 0);
  EXPECT_EQ(other.armed, 0u);
  EXPECT_EQ(b.owner.load(), w.get());
  w->advance(30'000'000, &out);
  EXPECT_EQ(got, (std::vector<std::uint64_t>{10'000'000, 20'000'000}));
  EXPECT_EQ(w->armed, 0u);
}

// All bits of a tick: what is placed at a boundary of any level, the highest too, is found again, in order.
constexpr std::uint64_t tick_ns = std::uint64_t{1} << wheel::tick_shift;

TEST_F(Wheel, AcrossABoundaryOfEveryLevel_InOrder_NoneLost) {
  for (int level = 1; level < wheel::levels; level++)
    for (std::uint64_t turn : {1ull, 2ull, 63ull}) {
      SCOPED_TRACE(testing::Message() << "turn " << turn << " of level " << level);
      std::uint64_t boundary = turn << (6 * level), start = (boundary - 3) * tick_ns;
      w = std::make_unique<wheel>();
      got.clear();
      std::vector<std::uint64_t> expected;
      std::vector<std::unique_ptr<node>> nodes;
      for (std::uint64_t t = boundary - 2; t <= boundary + 2; t++) {
        if (t >= wheel::last) continue;
        nodes.push_back(std::make_unique<node>());
        arm(*nodes.back(), t * tick_ns, start);
        expected.push_back(t * tick_ns);
      }
      for (std::uint64_t t = boundary - 2; t <= boundary + 2; t++) w->advance(t * tick_ns, &out);
      EXPECT_EQ(got, expected);
      EXPECT_EQ(w->armed, 0u);
      EXPECT_EQ(w->used, 0u);
    }
}

TEST_F(Wheel, SetJustBeforeABoundary_FiresFarBehindIt) {
  constexpr std::uint64_t top = std::uint64_t{1} << 48;
  for (std::uint64_t now : {top - 2, top - 1, top, 3 * top - 1, 62 * top - 1})
    for (std::uint64_t far :
         {1ull, 2ull, 64ull, 65ull, 1ull << 30, 1ull << 47, 1ull << 48, (1ull << 48) + 1, 1ull << 52}) {
      if (now + far >= wheel::last) continue;
      SCOPED_TRACE(testing::Message() << "from " << now << " by " << far);
      w = std::make_unique<wheel>();
      got.clear();
      node before, n;
      arm(before, (now + 1) * tick_ns, (now - 1) * tick_ns); // one that takes `now` there, step by step
      arm(n, (now + far) * tick_ns, (now - 1) * tick_ns);
      w->advance(now * tick_ns, &out);
      EXPECT_TRUE(got.empty());
      EXPECT_LE(w->next_ns.load(), (now + 1) * tick_ns);
      w->advance((now + far) * tick_ns - 1, &out);
      if (far > 1) {
        EXPECT_EQ(got, std::vector<std::uint64_t>{(now + 1) * tick_ns});
      }
      w->advance((now + far) * tick_ns, &out);
      ASSERT_EQ(got.size(), 2u);
      EXPECT_EQ(got[far > 1], (now + far) * tick_ns);
    }
}

// The last tick is the end of time: a timer set for it is kept, found by remove(), and never fires.
TEST_F(Wheel, TheLastTickNeverComes) {
  std::uint64_t end = ~0ull;
  node latest, almost, again;
  arm(latest, end, 0);
  arm(almost, (wheel::last - 1) * tick_ns, 0);
  w->advance((wheel::last - 1) * tick_ns - 1, &out);
  EXPECT_TRUE(got.empty());
  w->advance(end, &out);
  EXPECT_EQ(got, std::vector<std::uint64_t>{(wheel::last - 1) * tick_ns});
  arm(again, 1, end); // long past: due at once, and there is no later moment
  w->advance(end, &out);
  EXPECT_EQ(got.size(), 1u);
  EXPECT_TRUE(w->remove(&latest));
  EXPECT_TRUE(w->remove(&again));
  EXPECT_EQ(w->armed, 0u);
  EXPECT_EQ(w->used, 0u);
}

TEST_F(Wheel, RandomNearTheHighestBoundaries_AgreesWithSortedList) {
  std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  for (int round = 0; round < 2000; round++) {
    w = std::make_unique<wheel>();
    got.clear();
    std::uint64_t now = ((1 + rng() % 62) << 48) - rng() % (1ull << rng() % 30);
    std::vector<std::unique_ptr<node>> nodes;
    std::vector<std::uint64_t> expected;
    for (int i = 0; i < 50; i++) {
      std::uint64_t t = now + 1 + (rng() >> (10 + rng() % 54));
      if (t >= wheel::last) continue;
      nodes.push_back(std::make_unique<node>());
      arm(*nodes.back(), t * tick_ns, now * tick_ns);
      expected.push_back(t * tick_ns);
      if (rng() % 4 == 0) w->advance((now += rng() % 64) * tick_ns, &out);
    }
    while (w->armed) {
      std::uint64_t next = w->next_ns.load();
      ASSERT_NE(next, wheel::never);
      w->advance(next + (rng() % 2 ? 0 : rng() % (1ull << rng() % 60)), &out);
    }
    std::sort(expected.begin(), expected.end());
    ASSERT_TRUE(std::is_sorted(got.begin(), got.end()));
    ASSERT_EQ(got, expected);
  }
}
} // namespace
