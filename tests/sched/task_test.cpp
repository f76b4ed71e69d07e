// tests/sched/task_test.cpp - spawn and task; run with attr; blocking; the shapes of go.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>

using namespace grt;
using namespace std::chrono_literals;

namespace {
using Task = GrtTest;
using Defer = GrtTest;
using GoOverloads = GrtTest;
using Blocking = GrtTest;
using RunAttr = GrtTest;

TEST_F(Task, ReturnsValuesReferencesMoveOnlyAndVoid) {
  EXPECT_EQ(spawn([] { return 42; }).get(), 42);
  int x = 1;
  task<int&> r = spawn([&]() -> int& { return x; });
  r.get() = 5;
  EXPECT_EQ(x, 5);
  task<std::unique_ptr<int>> p = spawn([](std::unique_ptr<int> v) { return v; }, std::make_unique<int>(7));
  EXPECT_EQ(*p.get(), 7);
  std::atomic<bool> ran{false};
  task<void> v = spawn([&] { ran = true; });
  v.get();
  EXPECT_TRUE(ran);
  EXPECT_EQ(spawn(std::plus<>(), 1, 2).get(), 3);
  EXPECT_EQ(spawn(&std::string::size, std::string("four")).get(), 4u);
}

TEST_F(Task, Rethrows_AndDropsWhatNobodyReads) {
  EXPECT_THROW(spawn([]() -> int { throw std::runtime_error("boom"); }).get(), std::runtime_error);
  EXPECT_THROW(spawn([] { throw 1; }).get(), int);
  auto t = spawn([] { throw 1; });
  t.join(); // does not throw
}

TEST_F(Task, Empty_Throws) {
  task<int> e;
  EXPECT_FALSE(e);
  EXPECT_THROW(e.join(), std::logic_error);
  EXPECT_THROW(e.get(), std::logic_error);
  EXPECT_THROW(e.detach(), std::logic_error);
  auto t = spawn([] { return 1; });
  task<int> u = std::move(t);
  EXPECT_THROW(t.get(), std::logic_error);
  u.join();
  u.join();
  EXPECT_TRUE(u);
  EXPECT_EQ(u.get(), 1);
  EXPECT_FALSE(u);
  EXPECT_THROW(u.get(), std::logic_error);
  u = spawn([] { return 2; });
  EXPECT_EQ(u.get(), 2);
}

TEST_F(Task, Swap_ExchangesResults_AlsoWithAnEmptyOneAndItself) {
  auto a = spawn([] { return std::string("a"); }), b = spawn([] { return std::string("b"); });
  a.swap(b);
  EXPECT_EQ(b.get(), "a");
  EXPECT_FALSE(b);
  b.swap(a);
  EXPECT_FALSE(a);
  b.swap(b);
  EXPECT_TRUE(b);
  EXPECT_EQ(b.get(), "b");
  chan<void> gate;
  auto runs = spawn([=] {
    gate.recv();
    return 1;
  });
  task<int> empty;
  empty.swap(runs); // does not join
  EXPECT_THROW(runs.join(), std::logic_error);
  gate.close();
  EXPECT_EQ(empty.get(), 1);
}

TEST_F(Defer, RunsLastFirst_UnlessDismissed) {
  std::string order;
  auto body = [&](bool throws) {
    defer first{[&] { order += '1'; }};
    defer forgotten{[&] { order += 'x'; }};
    defer last{[&] { order += '2'; }};
    forgotten.dismiss();
    forgotten.dismiss();
    if (throws) throw 1;
  };
  body(false);
  EXPECT_EQ(order, "21");
  EXPECT_THROW(body(true), int);
  EXPECT_EQ(order, "2121");
  run([&] {
    defer mine{[&] { order += '3'; }};
    defer dismissed{[&] { order += 'x'; }};
    dismissed.dismiss();
    grt::exit();
  });
  EXPECT_EQ(order, "21213");
}

TEST_F(Task, DestructionAndAssignmentJoin) {
  std::atomic<int> done{0};
  {
    auto slow = [&] {
      sleep_for(3ms);
      done++;
    };
    auto t = spawn(slow);
    t = spawn(slow);
    EXPECT_GE(done, 1);
  }
  EXPECT_EQ(done, 2);
}

TEST_F(Task, Detach_ResultDestroyedByWhoeverIsLast) {
  auto held = std::make_shared<int>(1);
  chan<void> gate;
  auto t = spawn([held, gate] {
    gate.recv();
    return held;
  });
  t.detach();
  EXPECT_GT(held.use_count(), 1);
  gate.close();
  while (held.use_count() > 1) sleep_for(100us);
  auto u = spawn([held] { return held; });
  u.join();
  u.detach();
  while (held.use_count() > 1) sleep_for(100us);
}

TEST_F(Task, ArgumentsAreGoneWhenJoinReturns) {
  for (int i = 0; i < scaled(2000); i++) {
    auto held = std::make_shared<int>(1);
    auto t = spawn([](const std::shared_ptr<int>& p) { return p.use_count(); }, held);
    t.join();
    EXPECT_EQ(held.use_count(), 1);
  }
}

TEST_F(Task, WithAttr_AndLargeStack) {
  auto t = spawn(attr{.name = "named", .stack_max = 1 << 20}, [] { return std::string(this_goroutine::name()); });
  EXPECT_EQ(t.get(), "named");
  EXPECT_EQ(spawn(
                attr{.pinned = true}, [](int a) { return a + 1; }, 1)
                .get(),
            2);
  EXPECT_THROW((void)spawn(attr{.stack_max = 1}, [] {}), std::invalid_argument);
}

TEST_F(Task, CopyOfTheFunctionThrows_NothingStarted) {
  struct thrower {
    thrower() = default;
    thrower(const thrower&) { throw std::runtime_error("copy"); }
    void operator()() const {}
  } f;
  EXPECT_THROW((void)spawn(f), std::runtime_error);
}

TEST_F(Task, JoinedByAThread_ByGoroutines_TreeOfThem) {
  struct fib {
    static int of(int n) {
      if (n < 2) return n;
      auto l = spawn(fib::of, n - 1);
      int r = fib::of(n - 2);
      return l.get() + r;
    }
  };
  EXPECT_EQ(run([] { return fib::of(14); }), 377);
  std::thread([] { EXPECT_EQ(spawn(fib::of, 10).get(), 55); }).join();
}

// A function that takes anything must get what was meant for it, strings and numbers too.
TEST_F(GoOverloads, ArgumentsThatLookLikeACallSiteReachTheFunction) {
  chan<std::size_t> c(8);
  auto any = [c](auto... a) { c.send(sizeof...(a)); };
  go(any);
  EXPECT_EQ(c.recv(), 0u);
  go(any, "file");
  EXPECT_EQ(c.recv(), 1u);
  go(any, "file", 3u);
  EXPECT_EQ(c.recv(), 2u);
  go(attr{.name = "n"}, any, "file", 3u);
  EXPECT_EQ(c.recv(), 2u);
  EXPECT_EQ(spawn([](auto... a) { return sizeof...(a); }, "file", 3u).get(), 2u);
}
struct not_callable {};
template <class... A>
concept startable = requires(A... a) {
  go(a...);
};
static_assert(startable<void (*)()> && startable<attr, void (*)()> && startable<void (*)(int), int>);
static_assert(!startable<not_callable> && !startable<void (*)(int)> && !startable<void (*)(), int> && !startable<attr>);
static_assert(std::is_move_constructible_v<task<int>> && !std::is_copy_constructible_v<task<int>>);

TEST_F(GoOverloads, MemberFunctionsReferencesAndMoveOnlyArguments) {
  struct counter {
    std::atomic<int> n{0};
    void add(int k) { n += k; }
  } c;
  spawn(&counter::add, &c, 2).join();
  spawn(&counter::add, std::ref(c), 3).join();
  EXPECT_EQ(c.n, 5);
}

TEST_F(RunAttr, NameAndStack) {
  EXPECT_EQ(run(attr{.name = "main"}, [] { return std::string(this_goroutine::name()); }), "main");
  run(attr{.stack_max = 2 << 20}, [] {
    auto b = this_goroutine::stack();
    EXPECT_GE(static_cast<char*>(b.high) - static_cast<char*>(b.low), 2 << 20);
    this_goroutine::set_name("later, and longer than forty-seven bytes: the rest is cut");
    EXPECT_EQ(this_goroutine::name(), "later, and longer than forty-seven bytes: the r");
  });
}

TEST_F(Blocking, ReturnsWhatItsFunctionDoes) {
  int x = 0;
  static_assert(std::is_same_v<decltype(blocking([&]() -> int& { return x; })), int&>);
  blocking([&]() -> int& { return x; }) = 3;
  EXPECT_EQ(x, 3);
  EXPECT_EQ(run([] { return blocking([p = std::make_unique<int>(4)] { return *p; }); }), 4);
  EXPECT_THROW(blocking([] { throw 1; }), int);
}
} // namespace
