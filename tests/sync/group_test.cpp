// wait_group.go, error_group, scope, single_flight.
#include "tests/support/fixture.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using Groups = GrtTest;
using ErrorGroup = GrtTest;
using Scope = GrtTest;
using SingleFlight = GrtTest;

// Callable with one argument and with none, and also with what a place in a source file is made of.
struct takes_any {
  std::string* got;
  void operator()(const std::string& s = "dropped") const { *got += s; }
  void operator()(const char* s, unsigned n) const { *got += s + std::to_string(n); }
};
TEST_F(Groups, ArgumentsAreCopiedAtOnceAndPassedOn) {
  std::string got;
  takes_any f{&got};
  const attr named{.name = "named"};
  auto taken = [&] { return std::exchange(got, {}); };
  auto try_all = [&](auto go, auto join) {
    go(f, "right");
    join();
    EXPECT_EQ(taken(), "right");
    go(f, "right", 7u);
    join();
    EXPECT_EQ(taken(), "right7");
    go(named, f, "right");
    join();
    EXPECT_EQ(taken(), "right");
    go(named, f);
    join();
    EXPECT_EQ(taken(), "dropped");
    go(f, std::string("temporary"));
    join();
    EXPECT_EQ(taken(), "temporary");
    go([&](std::unique_ptr<int> p) { got = std::to_string(*p); }, std::make_unique<int>(5));
    join();
    EXPECT_EQ(taken(), "5");
  };
  wait_group w;
  try_all([&](auto&&... a) { w.go(std::forward<decltype(a)>(a)...); }, [&] { w.wait(); });
  {
    error_group g;
    try_all([&](auto&&... a) { g.go(std::forward<decltype(a)>(a)...); }, [&] { g.wait(); });
  }
  {
    error_group g;
    try_all([&](auto&&... a) { EXPECT_TRUE(g.try_go(std::forward<decltype(a)>(a)...)); }, [&] { g.wait(); });
  }
  std::optional<scope> s;
  try_all(
      [&](auto&&... a) {
        s.emplace();
        s->go(std::forward<decltype(a)>(a)...);
      },
      [&] { s.reset(); });
  auto [ctx, cancel] = with_cancel(background());
  cancel();
  chan<void> over;
  stop_func one = context_after_func(
      ctx,
      [&](const std::string& x) {
        got = x;
        over.send();
      },
      "right");
  over.recv();
  EXPECT_EQ(taken(), "right");
  stop_func two = context_after_func(
      named, ctx,
      [&](const std::string& x, int n) {
        got = x + std::to_string(n);
        over.send();
      },
      "right", 7);
  over.recv();
  EXPECT_EQ(taken(), "right7");
}

TEST_F(Groups, WhatAFunctionHoldsIsGoneBeforeItCounts_AndItMayHaveAName) {
  for (int i = 0; i < scaled(2000); i++) {
    auto held = std::make_shared<int>(1);
    wait_group w;
    w.go({.name = "holder"}, [held] { EXPECT_EQ(this_goroutine::name(), "holder"); });
    w.go([held] {});
    w.wait();
    ASSERT_EQ(held.use_count(), 1);
    error_group g;
    g.go({.name = "holder"}, [held] { EXPECT_EQ(this_goroutine::name(), "holder"); });
    g.wait();
    ASSERT_EQ(held.use_count(), 1);
  }
  chan<void> ran;
  timer t = after_func({.name = "late"}, 1ms, [ran] {
    EXPECT_EQ(this_goroutine::name(), "late");
    ran.send();
  });
  ran.recv();
  t.reset(1ms);
  ran.recv();
}

struct uncopyable {
  uncopyable() = default;
  uncopyable(const uncopyable&) { throw std::runtime_error("copy"); }
  void operator()() const {}
};
TEST_F(Groups, AThrowingCopyLeavesTheCountAsItWas) {
  uncopyable f;
  wait_group w;
  EXPECT_THROW(w.go(f), std::runtime_error);
  w.wait();
  error_group g;
  g.limit(1);
  EXPECT_THROW(g.go(f), std::runtime_error);
  g.go([] {});
  g.wait();
  scope s;
  EXPECT_THROW(s.go(f), std::runtime_error);
}

TEST_F(ErrorGroup, TheFirstExceptionEndsTheContext_AndWaitRethrowsIt) {
  error_group g;
  context c = g.context();
  for (int i = 0; i < 10; i++)
    g.go([&, i] {
      if (i == 3) throw std::runtime_error("three");
      c.done().recv();
      throw std::runtime_error("later");
    });
  for (int k = 0; k < 2; k++) {
    try {
      g.wait();
      FAIL();
    } catch (std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "three");
    }
  }
  EXPECT_TRUE(c.err());
  EXPECT_THROW(std::rethrow_exception(c.cause()), std::runtime_error);
}

TEST_F(ErrorGroup, WithoutOne_WaitReturnsAndEndsTheContext) {
  auto [parent, cancel] = with_cancel(background());
  error_group g(parent), h(parent);
  std::atomic<int> n{0};
  for (int i = 0; i < 100; i++) g.go([&] { n++; });
  g.wait();
  EXPECT_EQ(n, 100);
  EXPECT_TRUE(g.context().err());
  EXPECT_FALSE(h.context().err());
  cancel();
  EXPECT_TRUE(h.context().err());
}

TEST_F(ErrorGroup, DestructorCancelsAndJoins) {
  std::atomic<int> ended{0};
  {
    error_group g;
    for (int i = 0; i < 5; i++)
      g.go([&, c = g.context()] {
        c.done().recv();
        ended++;
        throw 1;
      });
  }
  EXPECT_EQ(ended, 5);
}

TEST_F(ErrorGroup, Limit) {
  error_group g;
  g.limit(3);
  std::atomic<int> now{0}, most{0};
  for (int i = 0; i < 50; i++)
    g.go([&] {
      int n = ++now;
      for (int m = most; n > m && !most.compare_exchange_weak(m, n);) {
      }
      yield();
      now--;
    });
  g.wait();
  EXPECT_LE(most, 3);
  chan<void> hold;
  g.limit(1);
  EXPECT_TRUE(g.try_go([=] { hold.recv(); }));
  EXPECT_FALSE(g.try_go([] {}));
  EXPECT_THROW(g.limit(2), std::logic_error);
  hold.send();
  g.wait();
  g.limit(0);
  EXPECT_TRUE(g.try_go([] {}));
  g.wait();
}

TEST_F(Scope, JoinsAllOnLeaving) {
  std::atomic<int> n{0};
  {
    scope s;
    for (int i = 0; i < 20; i++)
      s.go([&] {
        s.go({.name = "child"}, [&] {
          sleep_for(1ms);
          n++;
        });
      });
  }
  EXPECT_EQ(n, 20);
}

TEST_F(Scope, AnExceptionCancelsTheOthers_AndIsRethrown) {
  std::atomic<int> canceled{0};
  auto body = [&] {
    scope s;
    for (int i = 0; i < 4; i++)
      s.go([&, c = s.context()] {
        c.done().recv();
        canceled++;
      });
    s.go([] { throw std::runtime_error("one"); });
  };
  EXPECT_THROW(body(), std::runtime_error);
  EXPECT_EQ(canceled, 4);
}

TEST_F(Scope, LeftByAnException_CancelsJoinsAndLetsItPass) {
  std::atomic<int> ended{0};
  auto body = [&] {
    scope s;
    s.go([&, c = s.context()] {
      c.done().recv();
      ended++;
      throw std::runtime_error("swallowed");
    });
    throw std::logic_error("outer");
  };
  EXPECT_THROW(body(), std::logic_error);
  EXPECT_EQ(ended, 1);
  try { // a scope inside a handler's destructor rethrows as any other: only its own block counts
    throw 1;
  } catch (int) {
    EXPECT_THROW(
        {
          scope s;
          s.go([] { throw std::runtime_error("x"); });
        },
        std::runtime_error);
  }
}

TEST_F(SingleFlight, OneCallPerKey_ShareItsResultOrException) {
  single_flight<std::string, int> calls;
  std::atomic<int> ran{0}, failed{0};
  chan<void> start;
  wait_group w;
  for (int i = 0; i < 40; i++)
    w.go([&, i] {
      try {
        int v = calls.run(i % 2 ? "odd" : "even", [&] {
          ran++;
          start.recv();
          if (i % 2) throw std::runtime_error("odd");
          return 42;
        });
        EXPECT_EQ(v, 42);
        EXPECT_EQ(i % 2, 0);
      } catch (std::runtime_error&) {
        EXPECT_EQ(i % 2, 1);
        failed++;
      }
    });
  await_waiting(40); // the others stand in line; whoever came after start is closed might run anew
  EXPECT_EQ(waiting_for("chan receive"), 2u);
  EXPECT_EQ(ran, 2);
  start.close();
  w.wait();
  EXPECT_EQ(failed, 20);
  int before = ran;
  EXPECT_EQ(calls.run("even", [&] { return ran.load(); }), before) << "a later call runs anew";
  single_flight<int, void> none;
  none.run(1, [] {});
  EXPECT_THROW(none.run(1, [] { throw 1; }), int);
}

TEST_F(SingleFlight, Hammered) {
  single_flight<int, long> calls;
  std::array<std::atomic<int>, 3> inside{};
  wait_group w;
  for (int k = 0; k < 8; k++)
    w.go([&, k] {
      for (int i = 0; i < scaled(5000); i++) {
        int key = (i + k) % 3;
        EXPECT_EQ(calls.run(key,
                            [&] {
                              EXPECT_EQ(++inside[key], 1);
                              if (i % 4 == 0) yield();
                              inside[key]--;
                              return key * 10L;
                            }),
                  key * 10L);
      }
    });
  w.wait();
}
} // namespace
