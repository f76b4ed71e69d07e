// tests/model/machine_test.cpp - the machine itself against the classic litmus tests: what each memory must and must
// not show.
#include <gtest/gtest.h>
#include <set>

#include "tests/model/machine.hpp"

namespace {
using namespace model;
using std::memory_order_acquire, std::memory_order_relaxed, std::memory_order_release;

// Two threads; what r[0] and r[1] can be in the end.
template <class F> std::set<std::string> outcomes(memory m, F threads) {
  struct litmus : world {
    modelled::atomic<int> x, y, out[2];
    F& threads;
    std::set<std::string> seen;
    litmus(memory m, F& f) : world(m), threads(f) {}
    void program(unsigned t) override { threads(*this, t); }
    std::string at_rest() override {
      seen.insert(std::to_string(value(out[0])) + std::to_string(value(out[1])));
      return "";
    }
    int get(modelled::atomic<int>& a, std::memory_order o = memory_order_relaxed) { return modelled::load(a, o); }
    void set(modelled::atomic<int>& a, int v, std::memory_order o = memory_order_relaxed) { modelled::store(a, v, o); }
    void fence() { modelled::compiler_fence({}); }
  } w(m, threads);
  result r = w.explore();
  EXPECT_EQ(r.failure, "");
  return w.seen;
}
using S = std::set<std::string>;

TEST(Litmus, StoreBuffering_BothMayMiss) {
  auto f = [](auto& w, unsigned t) {
    w.set(t ? w.y : w.x, 1);
    w.fence();
    w.set(w.out[t], w.get(t ? w.x : w.y));
  };
  EXPECT_EQ(outcomes(memory::tso, f), (S{"00", "01", "10", "11"}));
  EXPECT_EQ(outcomes(memory::weak, f), (S{"00", "01", "10", "11"}));
}

TEST(Litmus, StoreBufferingWithOneMembarrier_OneSees) {
  auto f = [](auto& w, unsigned t) {
    w.set(t ? w.y : w.x, 1);
    t ? modelled::all_threads_fence({}) : w.fence();
    w.set(w.out[t], w.get(t ? w.x : w.y));
  };
  EXPECT_EQ(outcomes(memory::tso, f), (S{"01", "10", "11"}));
  EXPECT_EQ(outcomes(memory::weak, f), (S{"01", "10", "11"}));
}

TEST(Litmus, StoreBufferingWithOneMembarrierAndNoCompilerBarrier_BothMayMiss) {
  auto f = [](auto& w, unsigned t) {
    w.set(t ? w.y : w.x, 1);
    if (t) modelled::all_threads_fence({});
    w.set(w.out[t], w.get(t ? w.x : w.y));
  };
  EXPECT_EQ(outcomes(memory::tso, f).count("00"), 1u);
  EXPECT_EQ(outcomes(memory::weak, f).count("00"), 1u);
}

TEST(Litmus, MessagePassing_InOrderOnX86OrByReleaseAndAcquire) {
  for (bool release : {false, true})
    for (bool acquire : {false, true}) {
      auto f = [=](auto& w, unsigned t) {
        if (!t) {
          w.set(w.x, 1);
          w.set(w.y, 1, release ? memory_order_release : memory_order_relaxed);
        } else {
          w.set(w.out[0], w.get(w.y, acquire ? memory_order_acquire : memory_order_relaxed));
          w.set(w.out[1], w.get(w.x));
        }
      };
      EXPECT_EQ(outcomes(memory::tso, f), (S{"00", "01", "11"}));
      EXPECT_EQ(outcomes(memory::weak, f).count("10"), !(release && acquire));
    }
}

TEST(Litmus, OneLocation_IsCoherent) {
  auto f = [](auto& w, unsigned t) {
    if (!t) {
      w.set(w.x, 1);
      w.set(w.x, 2);
    } else {
      w.set(w.out[0], w.get(w.x));
      w.set(w.out[1], w.get(w.x));
    }
  };
  for (memory m : {memory::tso, memory::weak}) EXPECT_EQ(outcomes(m, f), (S{"00", "01", "02", "11", "12", "22"}));
}

TEST(Litmus, TwoWritersToTwoLocations_MayCrossWhenWeak) {
  auto f = [](auto& w, unsigned t) {
    auto &first = t ? w.out[1] : w.out[0], &second = t ? w.out[0] : w.out[1];
    w.set(first, 1);
    w.set(second, 2);
  };
  EXPECT_EQ(outcomes(memory::tso, f).count("11"), 0u);
  EXPECT_EQ(outcomes(memory::weak, f).count("11"), 1u);
}

TEST(Litmus, CompareAndSwap_OneWins) {
  auto f = [](auto& w, unsigned t) {
    int was = 0;
    w.set(w.out[t], modelled::cas(w.x, was, 1, memory_order_relaxed));
  };
  for (memory m : {memory::tso, memory::weak}) EXPECT_EQ(outcomes(m, f), (S{"01", "10"}));
}

struct racy : world {
  modelled::plain<int> x;
  modelled::lock l;
  bool locked;
  racy(memory m, bool with, site without = site::none) : world(m, without), locked(with) {}
  void program(unsigned) override {
    if (locked) l.take();
    x = x + 1;
    if (locked) l.unlock();
  }
  std::string at_rest() override { return value(x) == 2 ? "" : "an increment is lost"; }
};

TEST(Machine, PlainIncrements_RaceUnlessLocked) {
  for (memory m : {memory::tso, memory::weak}) {
    EXPECT_NE(racy(m, false).explore().failure, "");
    EXPECT_EQ(racy(m, true).explore().failure, "");
  }
  EXPECT_NE(racy(memory::weak, true, site::spin_unlock).explore().failure, "");
  EXPECT_NE(racy(memory::weak, true, site::spin_lock).explore().failure, "");
}

struct sleepy : world {
  modelled::atomic<std::uint32_t> word{1};
  bool wakes;
  sleepy(memory m, bool w) : world(m), wakes(w) {}
  void program(unsigned t) override {
    if (t) {
      while (modelled::load(word, memory_order_relaxed) == 1) modelled::futex_wait(word, 1);
    } else {
      modelled::store(word, 0u, memory_order_relaxed);
      if (wakes) modelled::futex_wake(word);
    }
  }
  std::string at_rest() override { return sleeps(1) ? "asleep for ever" : ""; }
};

TEST(Machine, Futex_LosesNoWakeUp) {
  for (memory m : {memory::tso, memory::weak}) {
    EXPECT_EQ(sleepy(m, true).explore().failure, "");
    EXPECT_EQ(sleepy(m, false).explore().failure, "asleep for ever");
  }
}
} // namespace
