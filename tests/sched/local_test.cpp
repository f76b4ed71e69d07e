// tests/sched/local_test.cpp - goroutine-local values.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

using namespace grt;
using namespace std::chrono_literals;

namespace {
using Local = GrtTest;

TEST_F(Local, OnePerGoroutine_AcrossSwitches) {
  local<int> mine;
  *mine = -1;
  run([&] {
    wait_group w;
    std::atomic<int> wrong{0};
    for (int g = 0; g < scaled(2000); g++)
      w.go([&, g] {
        wrong += *mine != 0;
        *mine = g;
        for (int i = 0; i < 10; i++) {
          yield();
          wrong += (*mine)++ != g + i;
        }
      });
    w.wait();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(*mine, 0);
  });
  EXPECT_EQ(*mine, -1);
}

TEST_F(Local, MadeAtFirstUse_ByTheFactory_DestroyedAtTheEnd_NewestFirst) {
  std::string order;
  static std::atomic<int> destroyed;
  destroyed = 0;
  struct named {
    std::string* to;
    char c;
    named(std::string* to, char c) : to(to), c(c) { *to += c; }
    named(named&& o) : to(std::exchange(o.to, nullptr)), c(o.c) {}
    ~named() {
      if (!to) return;
      EXPECT_EQ(std::uncaught_exceptions(), 0); // also after exit()
      *to += static_cast<char>(c - 'a' + 'A');
      destroyed++;
    }
  };
  local<named> a{[&] { return named(&order, 'a'); }}, b{[&] { return named(&order, 'b'); }},
      c{[&] { return named(&order, 'c'); }};
  std::thread([&] { (void)*b, (void)*c; }).join();
  EXPECT_EQ(order, "bcCB");
  order.clear();
  run([&] { (void)*c, (void)*a; });
  while (destroyed < 4) sleep_for(100us);
  EXPECT_EQ(order, "caAC");
  order.clear();
  run([&] {
    (void)*a, (void)*a;
    grt::exit();
  });
  while (destroyed < 5) sleep_for(100us);
  EXPECT_EQ(order, "aA");
}

TEST_F(Local, DestructorsMayUseOthers_AndWait_RoundsAreBounded) {
  static std::atomic<int> made, gone;
  static std::atomic<void*> kept[16];
  made = gone = 0;
  struct again {
    local<again>* l = nullptr;
    local<int>* other = nullptr;
    again() {
      kept[made++] = this; // a leak that LeakSanitizer need not report
    }
    ~again() {
      yield();
      if (other) (**other)++;
      if (l) (*l)->l = l; // makes a new one, for ever
      gone++;
    }
  };
  local<int> number;
  local<again> chained, plain;
  run([&] {
    plain->other = &number; // `number` is made by the destructor, after everything else
    EXPECT_EQ(*number, 0);
  });
  run([&] { chained->l = &chained; });
  std::thread([&] { chained->l = &chained; }).join();
  while (gone < 1 + 4 + 4) sleep_for(100us);
  EXPECT_EQ(made, 1 + 5 + 5); // the fifth is given up
}

TEST_F(Local, ManyOfThem_AndSlotsUsedAgain) {
  struct value {
    int n = 0;
    std::shared_ptr<int> held;
  };
  auto held = std::make_shared<int>(0);
  chan<void> ready, gate;
  std::deque<local<value>> all;
  for (int i = 0; i < 100; i++) all.emplace_back();
  wait_group w;
  for (int g = 0; g < 20; g++)
    w.go([&, g] {
      for (int i = 0; i < 100; i++) {
        all[i]->n = g * 100 + i;
        all[i]->held = held;
      }
      for (int i = 0; i < 100; i++) EXPECT_EQ(all[i]->n, g * 100 + i);
      ready.send();
      gate.recv();
      ready.send();
      gate.recv();
    });
  for (int g = 0; g < 20; g++) ready.recv();
  EXPECT_EQ(held.use_count(), 2001);
  all.clear(); // the goroutines keep what they have until they end
  EXPECT_EQ(held.use_count(), 2001);
  {
    local<std::string> newcomer; // in a slot that all of them hold something for
    wait_group v;
    v.go([&] { EXPECT_EQ(*newcomer, ""); });
    v.wait();
    for (int g = 0; g < 20; g++) gate.send();
    for (int g = 0; g < 20; g++) ready.recv();
  }
  gate.close();
  w.wait();
  while (held.use_count() > 1) sleep_for(100us);
}

TEST_F(Local, AnOldValueIsNotTheNewOwners) {
  run([] {
    auto first = std::make_unique<local<int>>();
    **first = 7;
    first.reset();
    local<int> second;
    EXPECT_EQ(*second, 0);
  });
}

TEST_F(Local, WhatMakingThrows_LeavesTheAccess_AndTheNextTriesAgain) {
  int tries = 0;
  local<int> l{[&]() -> int {
    if (!tries++) throw std::runtime_error("first");
    return 5;
  }};
  EXPECT_THROW(*l, std::runtime_error);
  EXPECT_EQ(*l, 5);
  local<std::unique_ptr<int>> p{[] { return std::make_unique<int>(6); }}; // move-only
  EXPECT_EQ(**p, 6);
}

TEST_F(Local, InPinnedGoroutines) {
  local<int> l;
  chan<int> c(1);
  go(attr{.pinned = true}, [&] {
    *l = 3;
    sleep_for(10us);
    this_goroutine::unpin();
    yield();
    c.send(*l);
  });
  EXPECT_EQ(c.recv(), 3);
}
} // namespace
