// Timers, tickers, after, after_func; and the directional views they hand out. Only lower bounds of time are asserted.
#include "tests/support/fixture.hpp"

#include <array>
#include <atomic>
#include <memory>

namespace {
using namespace grt;
using namespace std::chrono_literals;
using std::chrono::steady_clock;
struct Timer : GrtTest {};
struct Ticker : GrtTest {};
struct AfterFunc : GrtTest {};
struct Views : GrtTest {};

TEST_F(Timer, SendsTheTime_NotEarly) {
  run([] {
    auto begin = steady_clock::now();
    timer t(3ms);
    auto fired = t.c().recv();
    EXPECT_GE(steady_clock::now() - begin, 3ms);
    EXPECT_GE(*fired - begin, 3ms);
    EXPECT_FALSE(t.stop());
  });
}

TEST_F(Timer, StopPending_IsTrue_AndNothingComes) {
  run([] {
    timer t(1h);
    EXPECT_TRUE(t.stop());
    EXPECT_FALSE(t.stop());
    time_point v;
    EXPECT_EQ(t.c().try_recv(v), recv_result::empty);
  });
}

TEST_F(Timer, StopAfterItFired_TakesTheStaleValue) {
  run([] {
    timer t(1us);
    while (!t.c().size()) yield();
    EXPECT_TRUE(t.stop()) << "fired, but nobody has received it";
    time_point v;
    EXPECT_EQ(t.c().try_recv(v), recv_result::empty);
  });
}

TEST_F(Timer, Reset_CountsFromNow_AndDropsStaleValues) {
  run([] {
    timer t(1us);
    while (!t.c().size()) yield();
    auto begin = steady_clock::now();
    EXPECT_TRUE(t.reset(4ms));
    EXPECT_GE(*t.c().recv() - begin, 4ms);
    EXPECT_FALSE(t.reset(1us)); // received: it was not pending
    EXPECT_TRUE(t.c().recv().has_value());
  });
}

TEST_F(Timer, DroppingTheHandleDoesNotStopIt) {
  run([] {
    recv_chan<time_point> c = nil;
    {
      timer t(1ms);
      c = t.c();
    }
    EXPECT_TRUE(c.recv().has_value());
    EXPECT_TRUE(after(1ms).recv().has_value());
    after(1us); // nobody holds anything
    sleep_for(1ms);
    after(1us).recv();
  });
}

TEST_F(Timer, Empty) {
  timer t;
  EXPECT_FALSE(t.stop());
  EXPECT_FALSE(t.c());
  EXPECT_THROW(t.reset(1ms), std::logic_error);
}

TEST_F(Timer, InSelect) {
  run([] {
    chan<int> never;
    timer t(2ms);
    EXPECT_EQ(select(on_recv(never), on_recv(t.c())), 1u);
    EXPECT_EQ(select(on_recv(after(1h)), on_recv(after(1ms), [](std::optional<time_point> v) { EXPECT_TRUE(v); })), 1u);
  });
}

TEST_F(Timer, ManyResetTheSame) {
  run([] {
    timer t(1h);
    wait_group w;
    for (int k = 0; k < 8; k++)
      w.go([=] {
        for (int i = 0; i < scaled(2000); i++) {
          if (i % 3 == 0) t.stop();
          else t.reset(std::chrono::microseconds(i % 50));
          if (i % 16 == 0) yield();
        }
      });
    w.wait();
    t.reset(1us);
    EXPECT_TRUE(t.c().recv().has_value());
  });
}

TEST_F(Timer, FromAForeignThread) {
  timer t(2ms);
  EXPECT_TRUE(t.c().recv().has_value());
  EXPECT_TRUE(after(1ms).recv().has_value());
}

TEST_F(Ticker, TicksUntilStopped) {
  run([] {
    auto begin = steady_clock::now();
    ticker t(1ms);
    for (int i = 0; i < 5; i++) EXPECT_TRUE(t.c().recv().has_value());
    EXPECT_GE(steady_clock::now() - begin, 5ms);
    t.stop();
    time_point v;
    EXPECT_EQ(t.c().try_recv(v), recv_result::empty);
    t.reset(1ms);
    EXPECT_TRUE(t.c().recv().has_value());
  });
}

TEST_F(Ticker, ALateReceiverMissesTicks) {
  run([] {
    ticker t(100us);
    sleep_for(5ms);
    EXPECT_LE(t.c().size(), 1u);
    EXPECT_TRUE(t.c().recv().has_value());
  });
}

TEST_F(Ticker, PeriodMustBePositive) {
  EXPECT_THROW(ticker(0ms), std::invalid_argument);
  EXPECT_THROW(ticker(-1ms), std::invalid_argument);
  ticker t(1h);
  EXPECT_THROW(t.reset(0s), std::invalid_argument);
  ticker moved = std::move(t);
  moved.reset(1us);
  EXPECT_TRUE(moved.c().recv().has_value());
}

TEST_F(AfterFunc, RunsInItsOwnGoroutine) {
  run([] {
    chan<std::uint64_t> id;
    std::uint64_t mine = this_goroutine::id();
    timer t = after_func(1ms, [=] { id.send(this_goroutine::id()); });
    EXPECT_FALSE(t.c());
    EXPECT_NE(*id.recv(), mine);
    EXPECT_FALSE(t.stop());
  });
}

TEST_F(AfterFunc, Stopped_NeverRuns_AndItsFunctionIsDestroyed) {
  auto owned = std::make_shared<int>(1);
  std::weak_ptr<int> seen = owned;
  run([&] {
    std::atomic<bool> ran{false};
    {
      timer t = after_func(1h, [&ran, owned = std::move(owned)] { ran = true; });
      EXPECT_TRUE(t.stop());
      EXPECT_FALSE(t.stop());
    }
    EXPECT_FALSE(ran);
  });
  EXPECT_TRUE(seen.expired());
}

TEST_F(AfterFunc, Reset_RunsAgain) {
  run([] {
    chan<void> ran(10);
    timer t = after_func(1us, [=] { ran.send(); });
    ran.recv();
    for (int i = 0; i < 5; i++) {
      EXPECT_FALSE(t.reset(10us));
      ran.recv();
    }
    EXPECT_FALSE(t.reset(1h));
    EXPECT_TRUE(t.reset(1us));
    ran.recv();
  });
}

TEST_F(AfterFunc, PendingOnesAreNotCounted_RunningOnesAre) {
  run([] {
    std::size_t before = goroutines();
    chan<void> go_on, runs;
    timer t = after_func(1h, [=] {
      runs.send();
      go_on.recv();
    });
    EXPECT_EQ(goroutines(), before);
    EXPECT_TRUE(t.reset(1us));
    runs.recv();
    EXPECT_EQ(goroutines(), before + 1);
    go_on.close();
  });
}

TEST_F(AfterFunc, ManyStopAgainstFiring_EachRunsOnceOrWasStopped) {
  run([] {
    std::atomic<int> ran{0};
    int stopped = 0, n = scaled(5000);
    for (int i = 0; i < n; i++) {
      timer t = after_func(std::chrono::microseconds(i % 7), [&] { ran++; });
      for (int k = i % 5; k; k--) yield();
      stopped += t.stop();
    }
    while (ran + stopped < n) yield();
    EXPECT_EQ(ran + stopped, n);
  });
}

TEST_F(AfterFunc, ThrowingCopyLeavesNothing) {
  struct throws {
    throws() = default;
    throws(const throws&) { throw 1; }
    void operator()() const {}
  } f;
  EXPECT_THROW(after_func(1ms, f), int);
}

TEST_F(AfterFunc, LargeFunctionObject) {
  run([] {
    std::array<long, 100> big{};
    big[99] = 7;
    chan<long> out;
    timer t = after_func(1us, [=] { out.send(big[99]); });
    EXPECT_EQ(*out.recv(), 7);
  });
}

TEST_F(Views, CarryOneDirectionEach) {
  run([] {
    chan<int> c(2);
    send_chan<int> in = c;
    recv_chan<int> out = c;
    in.send(1);
    EXPECT_TRUE(in.try_send(2));
    EXPECT_EQ(out.size(), 2u);
    EXPECT_TRUE(in == c && out == c);
    in.close();
    int sum = 0;
    for (int v : out) sum += v;
    EXPECT_EQ(sum, 3);
    EXPECT_FALSE(send_chan<int>(nil));
    EXPECT_FALSE(recv_chan<int>(nil));
    EXPECT_THROW(send_chan<int>(nil).close(), channel_error);
  });
}

TEST_F(Views, InSelect_AndVoid) {
  run([] {
    chan<int> c(1);
    chan<void> s(1);
    send_chan<int> in = c;
    recv_chan<int> out = c;
    send_chan<void> raise = s;
    recv_chan<void> signal = s;
    EXPECT_EQ(select(on_send(in, 5)), 0u);
    std::optional<int> v;
    EXPECT_EQ(select(on_recv(out, v)), 0u);
    EXPECT_EQ(v, 5);
    EXPECT_EQ(select(on_send(raise)), 0u);
    EXPECT_EQ(select(on_recv(signal, [](bool ok) { EXPECT_TRUE(ok); })), 0u);
    raise.send();
    EXPECT_EQ(signal.try_recv(), recv_result::ok);
    raise.close();
    EXPECT_FALSE(signal.recv());
  });
}

static_assert(!std::is_convertible_v<recv_chan<int>, chan<int>> &&
              !std::is_convertible_v<recv_chan<int>, send_chan<int>>);
static_assert(!std::is_default_constructible_v<recv_chan<int>>);
} // namespace
