// tests/sched/wheel_test.cpp - the timer wheel against a sorted list.
#include <algorithm>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <vector>

#include "sched/g.hpp"
#include "sched/wheel.hpp"

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
} // namespace
