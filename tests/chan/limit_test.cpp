// send_for, recv_for, nil and moved-from handles, select_set.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace {
using namespace grt;
using namespace std::chrono_literals;
using ChanLimit = GrtTest;
using ChanHandle = GrtTest;
using SelectSet = GrtTest;

TEST_F(ChanLimit, TimesOut_NeverEarly_AndLeavesTheValue) {
  chan<std::unique_ptr<int>> c;
  auto p = std::make_unique<int>(1);
  auto t0 = std::chrono::steady_clock::now();
  EXPECT_FALSE(c.send_for(std::move(p), 3ms));
  EXPECT_GE(std::chrono::steady_clock::now() - t0, 3ms);
  EXPECT_EQ(*p, 1); // NOLINT(bugprone-use-after-move)
  std::unique_ptr<int> out;
  EXPECT_EQ(c.recv_for(out, 1ms), recv_result::empty);
  EXPECT_EQ(c.recv_for(out, 0ms), recv_result::empty);
  chan<void> s;
  EXPECT_FALSE(s.send_for(1ms));
  EXPECT_EQ(s.recv_for(1ms), recv_result::empty);
  EXPECT_FALSE(send_chan<void>(s).send_for(0s));
}

TEST_F(ChanLimit, GoesOnInTime_AlsoOnViewsAndThreads) {
  chan<int> c;
  go([c] {
    EXPECT_TRUE(send_chan<int>(c).send_for(1, 1h));
    const int two = 2;
    EXPECT_TRUE(c.send_for(two, 1h));
    std::optional<int> v;
    EXPECT_EQ(c.recv_for(v, 1h), recv_result::ok);
    EXPECT_EQ(v, 3);
    sleep_for(1ms);
    c.close();
  });
  int got = 0;
  EXPECT_EQ(recv_chan<int>(c).recv_for(got, 1h), recv_result::ok);
  EXPECT_EQ(got, 1);
  std::optional<int> v;
  EXPECT_EQ(c.recv_for(v, 1h), recv_result::ok);
  EXPECT_EQ(v, 2);
  c.send(3);
  EXPECT_EQ(c.recv_for(got, 1h), recv_result::closed);
  EXPECT_EQ(got, 1);
  EXPECT_THROW(c.send_for(1, 1s), channel_error);
  chan<void> s(1);
  EXPECT_TRUE(s.send_for(0s));
  EXPECT_EQ(s.recv_for(0s), recv_result::ok);
  s.close();
  EXPECT_EQ(s.recv_for(1s), recv_result::closed);
  EXPECT_THROW(s.send_for(1s), channel_error);
}

TEST_F(ChanLimit, ClosedWhileItWaits) {
  chan<int> c;
  wait_group w;
  w.go([&] { EXPECT_THROW(c.send_for(1, 1h), channel_error); });
  w.go([&] {
    sleep_for(2ms);
    c.close();
  });
  w.wait();
}

TEST_F(ChanLimit, NilTimesOut) {
  chan<int> c = nil;
  int v = 0;
  EXPECT_FALSE(c.send_for(1, 1ms));
  EXPECT_EQ(c.recv_for(v, 1ms), recv_result::empty);
  EXPECT_EQ(chan<void>(nil).recv_for(1ms), recv_result::empty);
}

TEST_F(ChanLimit, RacesWithPartners_EachValueOnce) {
  run([] {
    chan<int> c, b(2);
    std::atomic<long> sent{0}, got{0};
    wait_group w;
    int n = scaled(6000);
    for (int k = 0; k < 4; k++) {
      w.go([&] {
        for (int i = 1; i <= n; i++)
          if ((i % 2 ? c : b).send_for(i, std::chrono::microseconds(i % 7))) sent += i;
      });
      w.go([&] {
        for (int i = 1, v; i <= n; i++)
          if ((i % 2 ? c : b).recv_for(v, std::chrono::microseconds(i % 5)) == recv_result::ok) got += v;
      });
    }
    w.wait();
    while (b.size()) got += *b.recv();
    EXPECT_EQ(sent, got);
  });
}

struct moody { // its copies throw, and it cannot be assigned
  int n;
  bool throws = false;
  explicit moody(int n) : n(n) {}
  moody(const moody& o) : n(o.n) {
    if (o.throws) throw std::runtime_error("copy");
  }
  moody(moody&& o) noexcept : n(std::exchange(o.n, 0)) {}
  moody& operator=(const moody&) = delete;
};

TEST_F(ChanHandle, AThrowingCopyLosesNothing) {
  chan<moody> c(2);
  moody m(1);
  EXPECT_TRUE(c.try_send(m));
  m.throws = true;
  EXPECT_THROW(c.try_send(m), std::runtime_error);
  EXPECT_THROW(c.send_for(m, 1s), std::runtime_error);
  EXPECT_EQ(m.n, 1);
  EXPECT_TRUE(c.try_send(std::move(m)));
  moody full(3);
  EXPECT_FALSE(c.try_send(std::move(full)));
  EXPECT_EQ(full.n, 3); // NOLINT(bugprone-use-after-move)
  moody out(0);
  EXPECT_EQ(c.try_recv(out), recv_result::ok);
  EXPECT_EQ(out.n, 1);
  EXPECT_EQ(c.recv_for(out, 1s), recv_result::ok);
  EXPECT_EQ(out.n, 1);
  EXPECT_EQ(c.size(), 0u);
}

TEST_F(ChanHandle, DefaultIsAChannel_MovedFromIsNil) {
  chan<int> a, b(1);
  EXPECT_TRUE(a && b && a != b);
  chan<int> c = std::move(a);
  EXPECT_FALSE(a); // NOLINT(bugprone-use-after-move)
  EXPECT_TRUE(a == chan<int>(nil));
  a = b;
  EXPECT_TRUE(a == b);
  c = std::move(b);
  EXPECT_TRUE(!b && c == a); // NOLINT(bugprone-use-after-move)
  send_chan<int> s = c;
  recv_chan<int> r = c, none = nil;
  EXPECT_FALSE(none);
  none = std::move(r);
  EXPECT_FALSE(r); // NOLINT(bugprone-use-after-move)
  s.send(4);
  EXPECT_EQ(none.recv(), 4);
  EXPECT_THROW(chan<int>(nil).close(), channel_error);
  EXPECT_FALSE(send_chan<int>(nil).try_send(1));
}

TEST_F(SelectSet, ReceivesStay_ASendThatFiredLeaves_IndicesGoOn) {
  select_set s;
  chan<int> in(1), out(1);
  std::vector<int> got;
  EXPECT_EQ(s.add(on_recv(in, [&](std::optional<int> v) { got.push_back(v.value_or(-1)); })), 0u);
  auto p = std::make_unique<int>(5);
  chan<std::unique_ptr<int>> boxes(1);
  EXPECT_EQ(s.add(on_send(boxes, std::move(p))), 1u);
  EXPECT_FALSE(p); // NOLINT(bugprone-use-after-move): at once
  EXPECT_EQ(s.wait(), 1u);
  EXPECT_EQ(**boxes.recv(), 5);
  in.send(1);
  EXPECT_EQ(s.wait(), 0u);
  in.send(2);
  EXPECT_EQ(s.wait(), 0u);
  int v = 9;
  EXPECT_EQ(s.add(on_send(out, v, [&] { got.push_back(0); })), 2u);
  EXPECT_EQ(s.wait(), 2u);
  EXPECT_EQ(out.recv(), 9);
  EXPECT_EQ(s.add(on_timeout(1ms)), 3u);
  EXPECT_EQ(s.add(on_timeout(1h)), 4u);
  EXPECT_EQ(s.wait(), 3u);
  EXPECT_EQ(s.wait(), 3u);
  EXPECT_EQ(s.add(on_default([&] { got.push_back(7); })), 5u);
  EXPECT_THROW(s.add(on_default()), std::logic_error);
  EXPECT_EQ(s.wait(), 5u);
  in.close();
  EXPECT_EQ(s.wait(), 0u);
  EXPECT_EQ(got, (std::vector<int>{1, 2, 0, 7, -1}));
  EXPECT_TRUE(s.remove(0));
  EXPECT_FALSE(s.remove(0) || s.remove(1) || s.remove(99));
  EXPECT_EQ(s.size(), 3u);
  EXPECT_EQ(s.wait(), 5u);
}

TEST_F(SelectSet, NilNeverFires_AClosedSendThrowsAndLeaves) {
  select_set s;
  s.add(on_recv(chan<int>(nil)));
  s.add(on_send(chan<void>(nil)));
  s.add(on_timeout(1ms));
  EXPECT_EQ(s.wait(), 2u);
  chan<int> c;
  c.close();
  s.add(on_send(c, 1));
  EXPECT_THROW(s.wait(), channel_error);
  EXPECT_EQ(s.wait(), 2u);
}

TEST_F(SelectSet, KeepsItsChannelsAlive_AndHandlersMayChangeIt) {
  select_set s;
  std::optional<std::string> out;
  {
    chan<std::string> c(1);
    c.send("kept");
    s.add(on_recv(c, out));
  }
  EXPECT_EQ(s.wait(), 0u);
  EXPECT_EQ(out, "kept");
  s.remove(0);
  chan<int> a(3);
  for (int i = 0; i < 3; i++) a.send(i);
  int sum = 0;
  s.add(on_recv(a, [&, held = std::make_shared<int>(1)](std::optional<int> v) {
    sum += *v + *held;
    s.remove(1); // itself
    s.add(on_recv(a, [&] { sum += 100; }));
    sum += *held;
  }));
  EXPECT_EQ(s.wait(), 1u);
  EXPECT_EQ(s.wait(), 2u);
  EXPECT_EQ(sum, 102);
}

TEST_F(SelectSet, ManyChannels_EachValueOnce) {
  run([] {
    std::vector<chan<int>> c(100);
    int n = scaled(4000);
    wait_group w;
    for (std::size_t k = 0; k < c.size(); k += 10)
      w.go([&, k] {
        for (int i = 1; i <= n; i++) c[k + i % 10].send(i);
      });
    select_set s;
    long sum = 0;
    for (auto& x : c) s.add(on_recv(x, [&](std::optional<int> v) { sum += *v; }));
    chan<void> quit;
    std::size_t over = s.add(on_recv(quit));
    go([&] {
      w.wait();
      quit.close();
    });
    while (s.wait() != over) {
    }
    EXPECT_EQ(sum, 10L * n * (n + 1) / 2);
  });
}
} // namespace
