// tests/chan/select_test.cpp - choice, timeouts, defaults.
#include "tests/support/fixture.hpp"

#include <array>
#include <atomic>

using namespace grt;
using namespace std::chrono_literals;

namespace {
using Select = GrtTest;

TEST_F(Select, TakesTheReadyCaseAndGivesTheValue) {
  chan<int> a(1), b(1);
  b.send(3);
  int got = 0;
  EXPECT_EQ(select(on_recv(a), on_recv(b, [&](std::optional<int> v) { got = *v; })), 1u);
  EXPECT_EQ(got, 3);
  std::optional<int> out;
  a.send(4);
  EXPECT_EQ(select(on_recv(a, out), on_recv(b)), 0u);
  EXPECT_EQ(out, 4);
  EXPECT_EQ(select(on_send(a, 5), on_recv(b)), 0u);
  EXPECT_EQ(a.recv(), 5);
}

TEST_F(Select, DefaultOnlyWhenNothingIsReady) {
  chan<int> a(1);
  EXPECT_EQ(select(on_recv(a), on_default()), 1u);
  a.send(1);
  EXPECT_EQ(select(on_recv(a), on_default()), 0u);
  EXPECT_THROW(select(on_default(), on_default()), std::logic_error);
}

TEST_F(Select, ClosedChannelIsReady_SendThrows) {
  chan<int> a;
  a.close();
  bool empty = false;
  EXPECT_EQ(select(on_recv(a, [&](std::optional<int> v) { empty = !v; })), 0u);
  EXPECT_TRUE(empty);
  EXPECT_THROW(select(on_send(a, 1)), channel_error);
}

TEST_F(Select, TimeoutFires_NeverEarly) {
  run([] {
    chan<int> a;
    auto t0 = std::chrono::steady_clock::now();
    EXPECT_EQ(select(on_recv(a), on_timeout(3ms), on_timeout(5s)), 1u);
    EXPECT_GE(std::chrono::steady_clock::now() - t0, 3ms);
    EXPECT_EQ(select(on_timeout(1ms)), 0u);
    EXPECT_EQ(select(on_recv(chan<int>(nil)), on_timeout(1ms)), 1u);
  });
  chan<int> a;
  EXPECT_EQ(select(on_recv(a), on_timeout(1ms)), 1u) << "on a thread of the program's";
}

TEST_F(Select, UniformAmongTheReady) {
  run([] {
    std::array<chan<int>, 4> c{chan<int>(1), chan<int>(1), chan<int>(1), chan<int>(1)};
    std::array<int, 4> hits{};
    int n = scaled(40000);
    for (auto& x : c) x.send(0);
    for (int i = 0; i < n; i++) {
      auto k = select(on_recv(c[0]), on_recv(c[1]), on_recv(c[2]), on_recv(c[3]));
      hits[k]++;
      c[k].send(0);
    }
    for (int h : hits) {
      EXPECT_GT(h, n / 4 - n / 16);
      EXPECT_LT(h, n / 4 + n / 16);
    }
  });
}

TEST_F(Select, SameChannelTwice_UniformAlsoAfterAWait) {
  run([] {
    chan<int> c;
    int n = scaled(20000), first = 0;
    go([=] {
      for (int i = 0; i < n; i++) c.send(i);
    });
    for (int i = 0; i < n; i++) first += select(on_recv(c), on_recv(c)) == 0;
    EXPECT_GT(first, n / 3);
    EXPECT_LT(first, n - n / 3);
  });
}

TEST_F(Select, ManySelectorsAcrossChannels_NothingLost) {
  run([] {
    chan<int> a, b(2), quit;
    int n = scaled(10000);
    std::atomic<long> sum{0};
    wait_group senders, takers;
    for (int g = 0; g < 4; g++)
      senders.go([&] {
        for (int i = 1; i <= n; i++) select(on_send(a, i), on_send(b, i));
      });
    for (int g = 0; g < 4; g++)
      takers.go([&] {
        for (bool on = true; on;)
          select(on_recv(a, [&](std::optional<int> v) { sum += *v; }),
                 on_recv(b, [&](std::optional<int> v) { sum += *v; }),
                 on_recv(quit, [&](std::optional<int>) { on = false; }));
      });
    senders.wait();
    while (b.size()) yield();
    quit.close();
    takers.wait();
    EXPECT_EQ(sum, 4L * n * (n + 1) / 2);
  });
}

TEST_F(Select, TimeoutsRaceWithSenders_EachValueOnce) {
  run([] {
    chan<int> c;
    int n = scaled(3000);
    std::atomic<long> sent{0}, got{0};
    wait_group w;
    for (int g = 0; g < 4; g++) {
      w.go([&] {
        for (int i = 1; i <= n; i++)
          select(on_send(c, i, [&] { sent += i; }), on_timeout(std::chrono::microseconds(i % 7)));
      });
      w.go([&] {
        for (int i = 1; i <= n; i++)
          select(on_recv(c, [&](std::optional<int> v) { got += *v; }), on_timeout(std::chrono::microseconds(i % 5)));
      });
    }
    w.wait();
    EXPECT_EQ(sent, got);
  });
}

TEST_F(Select, MoreThanEightCases) {
  run([] {
    chan<int> c[10];
    go([d = c[9]] { d.send(1); });
    EXPECT_EQ(select(on_recv(c[0]), on_recv(c[1]), on_recv(c[2]), on_recv(c[3]), on_recv(c[4]), on_recv(c[5]),
                     on_recv(c[6]), on_recv(c[7]), on_recv(c[8]), on_recv(c[9])),
              9u);
  });
}
} // namespace
