// tests/chan/chan_test.cpp - send, receive, close, by the API's words.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/waiting.hpp"

using namespace grt;
using namespace std::chrono_literals;

namespace {
using ChanSend = GrtTest;
using ChanRecv = GrtTest;
using ChanClose = GrtTest;
using ChanNil = GrtTest;
using ChanTry = GrtTest;
using ChanOrder = GrtTest;
using ChanElem = GrtTest;
using ChanVoid = GrtTest;
using ChanForeign = GrtTest;

TEST_F(ChanRecv, ClosedAndDrained_ReturnsNullopt) {
  chan<int> c(2);
  c.send(1);
  c.send(2);
  c.close();
  EXPECT_EQ(c.recv(), 1);
  EXPECT_EQ(c.recv(), 2);
  EXPECT_EQ(c.recv(), std::nullopt);
  EXPECT_TRUE(c.closed());
}

TEST_F(ChanSend, Unbuffered_WaitsForTheReceiver) {
  run([] {
    chan<int> c;
    std::atomic<bool> sent{false};
    wait_group w;
    w.go([&] {
      c.send(7);
      sent = true;
    });
    for (int i = 0; i < 1000; i++) yield();
    EXPECT_FALSE(sent);
    EXPECT_EQ(c.recv(), 7);
    w.wait();
    EXPECT_TRUE(sent);
  });
}

TEST_F(ChanSend, Closed_ThrowsAndLeavesTheChannelUsable) {
  chan<int> c(3);
  c.send(1);
  c.close();
  EXPECT_THROW(c.send(2), channel_error);
  EXPECT_THROW(c.try_send(2), channel_error);
  EXPECT_EQ(c.size(), 1u);
  EXPECT_EQ(c.recv(), 1);
}

TEST_F(ChanClose, TwiceOrNil_Throws) {
  chan<int> c;
  c.close();
  EXPECT_THROW(c.close(), channel_error);
  EXPECT_THROW(chan<int>(nil).close(), channel_error);
  EXPECT_THROW(chan<void>(nil).close(), std::logic_error);
}

TEST_F(ChanClose, WakesWaitingReceiversAndSenders) {
  run([] {
    chan<int> a, b;
    wait_group w;
    std::atomic<int> ended{0}, threw{0};
    for (int i = 0; i < 10; i++) {
      w.go([&] { ended += !a.recv(); });
      w.go([&] {
        try {
          b.send(1);
        } catch (const channel_error&) {
          threw++;
        }
      });
    }
    await_waiting(20);
    a.close();
    b.close();
    w.wait();
    EXPECT_EQ(ended, 10);
    EXPECT_EQ(threw, 10);
  });
}

TEST_F(ChanNil, TryOperationsAreNeverReady) {
  chan<int> c = nil;
  EXPECT_FALSE(c);
  EXPECT_FALSE(c.try_send(1));
  int v = 0;
  EXPECT_EQ(c.try_recv(v), recv_result::empty);
  EXPECT_EQ(select(on_recv(c), on_default()), 1u);
  chan<int> d, e = std::move(d);
  EXPECT_FALSE(d);
  EXPECT_TRUE(e);
}

TEST_F(ChanTry, FullEmptyClosed) {
  chan<std::string> c(1);
  std::string s = "kept", out;
  EXPECT_EQ(c.try_recv(out), recv_result::empty);
  EXPECT_TRUE(c.try_send("one"));
  EXPECT_FALSE(c.try_send(std::move(s)));
  EXPECT_EQ(s, "kept") << "moved from only on success";
  EXPECT_EQ(c.try_recv(out), recv_result::ok);
  EXPECT_EQ(out, "one");
  c.close();
  std::optional<std::string> o;
  EXPECT_EQ(c.try_recv(o), recv_result::closed);
}

TEST_F(ChanOrder, OneSenderOneReceiver_EveryCapacity) {
  for (std::size_t cap : {0, 1, 2, 3, 64, 1000})
    run([cap] {
      chan<int> c(cap);
      int n = scaled(20000), want = 0;
      go([=] {
        for (int i = 0; i < n; i++) c.send(i);
        c.close();
      });
      for (int& v : c) ASSERT_EQ(v, want++);
      EXPECT_EQ(want, n);
    });
}

TEST_F(ChanOrder, WaitingReceiversAreServedFirstInFirstOut) {
  run([] {
    chan<int> c;
    std::vector<int> got(50, -1);
    wait_group w;
    for (int i = 0; i < 50; i++) {
      w.go([&, i] { got[i] = *c.recv(); });
      await_waiting(i + 1, "chan receive");
    }
    for (int i = 0; i < 50; i++) c.send(i);
    w.wait();
    for (int i = 0; i < 50; i++) EXPECT_EQ(got[i], i);
  });
}

TEST_F(ChanOrder, ManyToMany_NothingLostNothingTwice) {
  for (std::size_t cap : {0, 4})
    run([cap] {
      chan<int> c(cap);
      int n = scaled(5000), senders = 8;
      std::vector<std::atomic<int>> seen(n * senders);
      wait_group s, r;
      for (int g = 0; g < senders; g++)
        s.go([&, g] {
          for (int i = 0; i < n; i++) c.send(g * n + i);
        });
      for (int g = 0; g < 8; g++)
        r.go([&] {
          for (int v : c) seen[v]++;
        });
      s.wait();
      c.close();
      r.wait();
      for (auto& x : seen) ASSERT_EQ(x, 1);
    });
}

TEST_F(ChanElem, MoveOnlyAndLarge) {
  run([] {
    chan<std::unique_ptr<int>> c(1);
    c.send(std::make_unique<int>(5));
    EXPECT_EQ(**c.recv(), 5);
    c.send(std::make_unique<int>(6)); // destroyed with the channel
    struct alignas(64) big {
      int v[64];
    };
    chan<big> b;
    go([=] {
      big x{};
      x.v[63] = 9;
      b.send(x);
    });
    auto got = b.recv();
    EXPECT_EQ(got->v[63], 9);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&*got) % 64, 0u);
  });
}

TEST_F(ChanElem, TooLargeACapacity_ThrowsLengthError) {
  EXPECT_THROW(chan<int>(chan<int>::max_capacity + 1), std::length_error);
}

TEST_F(ChanVoid, SignalsAndClose) {
  run([] {
    chan<void> done;
    go([=] { done.send(); });
    EXPECT_TRUE(done.recv());
    EXPECT_EQ(done.try_recv(), recv_result::empty);
    EXPECT_FALSE(done.try_send());
    done.close();
    EXPECT_FALSE(done.recv());
    EXPECT_EQ(done.try_recv(), recv_result::closed);
  });
}

TEST_F(ChanForeign, ThreadsAndGoroutinesMixed) {
  chan<int> c;
  int n = scaled(3000);
  std::thread t([=] {
    for (int i = 0; i < n; i++) c.send(i);
  });
  go([=] {
    for (int i = 0; i < n; i++) c.send(i);
  });
  long sum = 0;
  for (int i = 0; i < 2 * n; i++) sum += *c.recv();
  EXPECT_EQ(sum, static_cast<long>(n) * (n - 1));
  t.join();
}
} // namespace
