// tests/chan/spec_test.cpp - Go's specification of channels and its memory model, a test for each rule, in its order.
// The memory model's rules are about plain variables: ThreadSanitizer proves them, a plain build sees the values.
// What blocks for ever is in tests/fatal: a goroutine left behind fails a test here.
#include "tests/support/fixture.hpp"

#include <array>
#include <concepts>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/attempt.hpp"
#include "tests/support/elements.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using ChannelTypes = GrtTest;
using LengthAndCapacity = GrtTest;
using SendStatement = GrtTest;
using ReceiveOperator = GrtTest;
using Close = GrtTest;
using Range = GrtTest;
using SelectStatement = GrtTest;
using MemoryModel = GrtTest;

template <class C>
concept can_send = requires(const C& c) {
  c.send(1);
};
template <class C>
concept can_receive = requires(const C& c) {
  c.recv();
};
template <class C>
concept can_close = requires(const C& c) {
  c.close();
};
template <class C>
concept can_range = requires(const C& c) {
  c.begin();
};

// ---- Channel types

// The direction is part of the type; one that goes both ways converts, never the other way.
static_assert(can_send<chan<int>> && can_receive<chan<int>> && can_close<chan<int>> && can_range<chan<int>>);
static_assert(can_send<send_chan<int>> && !can_receive<send_chan<int>> && !can_range<send_chan<int>>);
static_assert(!can_send<recv_chan<int>> && can_receive<recv_chan<int>> && can_range<recv_chan<int>>);
static_assert(std::convertible_to<chan<int>, send_chan<int>> && std::convertible_to<chan<int>, recv_chan<int>>);
static_assert(!std::convertible_to<send_chan<int>, chan<int>> && !std::convertible_to<recv_chan<int>, chan<int>> &&
              !std::convertible_to<send_chan<int>, recv_chan<int>>);
// Closing is the sender's.
static_assert(can_close<send_chan<int>> && !can_close<recv_chan<int>>);

TEST_F(ChannelTypes, WithoutACapacityBothSidesMustBeReady) {
  run([] {
    chan<int> c;
    attempt send([=] { c.send(1); });
    EXPECT_TRUE(send.blocks());
    EXPECT_EQ(c.recv(), 1);
    send.join();
    attempt receive([=] { EXPECT_EQ(c.recv(), 2); });
    EXPECT_TRUE(receive.blocks());
    c.send(2);
    receive.join();
  });
}
TEST_F(ChannelTypes, WithOneSendsGoOnUntilItIsFull_ReceivesUntilItIsEmpty) {
  run([] {
    for (int n : {1, 2, 5}) {
      chan<int> c(n);
      for (int i = 0; i < n; i++) EXPECT_FALSE(attempt([=] { c.send(i); }).blocks());
      attempt one_more([=] { c.send(n); });
      EXPECT_TRUE(one_more.blocks());
      for (int i = 0; i <= n; i++) EXPECT_FALSE(attempt([=] { EXPECT_EQ(c.recv(), i); }).blocks());
      one_more.join();
      attempt too_early([=] { c.recv(); });
      EXPECT_TRUE(too_early.blocks());
      c.close();
      too_early.join();
    }
  });
}
TEST_F(ChannelTypes, NilIsNeverReady) {
  run([] {
    for (chan<int> c : {chan<int>(nil)}) {
      int v;
      EXPECT_FALSE(c.try_send(1));
      EXPECT_EQ(c.try_recv(v), recv_result::empty);
      EXPECT_EQ(select(on_recv(c), on_send(c, 1), on_timeout(100us)), 2u);
    }
  });
}
TEST_F(ChannelTypes, AnyNumberMayUseOneWithoutFurtherSynchronisation) {
  chan<int> c(3);
  const int n = scaled(2000);
  std::atomic<long> sum{0};
  wait_group senders, receivers;
  for (int g = 0; g < 4; g++) {
    senders.go([&] {
      for (int i = 1; i <= n; i++) c.send(i);
    });
    receivers.go([&] {
      for (int v : c) sum += v;
    });
    senders.go([&] {
      for (int i = 0; i < n; i++) {
        EXPECT_LE(c.size(), c.capacity());
        EXPECT_FALSE(c.closed());
        if (i % 64 == 0) yield();
      }
    });
  }
  std::thread outside([&] {
    for (int i = 1; i <= n; i++) c.send(i);
  });
  outside.join();
  senders.wait();
  c.close();
  receivers.wait();
  EXPECT_EQ(sum, 5L * n * (n + 1) / 2);
}
TEST_F(ChannelTypes, AreQueues_WhatOneSendsAnotherReceivesInThatOrder) {
  for (int capacity : {0, 1, 7}) {
    chan<int> c(capacity);
    go([=] {
      for (int i = 0; i < 1000; i++) i % 3 ? c.send(i) : void(select(on_send(c, i)));
      c.close();
    });
    int want = 0;
    while (auto v = c.recv()) EXPECT_EQ(*v, want++);
    EXPECT_EQ(want, 1000);
  }
}
TEST_F(ChannelTypes, AreEqualIfMadeByTheSameMakeOrBothNil) {
  chan<int> a, b, copy = a, none = nil, other_none = nil;
  EXPECT_EQ(a, copy);
  EXPECT_FALSE(a == b);
  EXPECT_EQ(none, other_none);
  EXPECT_FALSE(a == none);
  EXPECT_EQ(send_chan<int>(a), send_chan<int>(copy));
  EXPECT_EQ(recv_chan<int>(nil), recv_chan<int>(nil));
}

// ---- Length and capacity

TEST_F(LengthAndCapacity, CountWhatIsQueued_0ForNil) {
  run([] {
    chan<int> c(3);
    EXPECT_EQ(c.capacity(), 3u);
    for (unsigned i = 0; i < 3; i++) {
      EXPECT_EQ(c.size(), i);
      c.send(0);
    }
    attempt waiting([=] { c.send(0); });
    EXPECT_TRUE(waiting.blocks());
    EXPECT_EQ(c.size(), 3u) << "a sender that waits is not in the buffer";
    c.recv();
    waiting.join();
    EXPECT_EQ(c.size(), 3u);
    c.close();
    EXPECT_EQ(c.size(), 3u);
    EXPECT_EQ(c.capacity(), 3u);
    chan<int> none = nil, direct;
    EXPECT_EQ(none.size() + none.capacity() + direct.size() + direct.capacity(), 0u);
    attempt sender([=] { direct.send(1); });
    EXPECT_TRUE(sender.blocks());
    EXPECT_EQ(direct.size(), 0u);
    direct.recv();
    sender.join();
  });
}

// ---- Send statements

TEST_F(SendStatement, EvaluatesItsOperandsBeforeItWaits) {
  run([] {
    chan<int> c;
    std::atomic<int> x = 1, evaluated = 0;
    attempt send([&] {
      chan<int> at = c;
      at.send((evaluated++, x.load()));
    });
    EXPECT_TRUE(send.blocks());
    EXPECT_EQ(evaluated, 1);
    x = 2;
    EXPECT_EQ(c.recv(), 1);
    send.join();
  });
}
TEST_F(SendStatement, OnAClosedChannelThrows_AlsoWhileItWaits) {
  run([] {
    chan<int> c;
    attempt waiting([=] { EXPECT_THROW(c.send(1), channel_error); });
    attempt selecting([=] { EXPECT_THROW(select(on_send(c, 2)), channel_error); });
    EXPECT_TRUE(waiting.blocks() && selecting.blocks());
    c.close();
    waiting.join();
    selecting.join();
    EXPECT_THROW(c.send(3), channel_error);
    EXPECT_THROW(c.try_send(3), channel_error);
    EXPECT_THROW(select(on_send(c, 3), on_default()), channel_error);
  });
}

// ---- Receive operator

TEST_F(ReceiveOperator, OnAClosedChannelGoesOnAtOnce_WithWhatWasSentBefore_ThenWithNothing) {
  run([] {
    chan<int> c(2);
    c.send(1);
    c.send(2);
    attempt late([=] { EXPECT_THROW(c.send(3), channel_error); });
    EXPECT_TRUE(late.blocks());
    c.close();
    late.join();
    std::vector<std::optional<int>> got;
    EXPECT_FALSE(attempt([&] {
                   for (int i = 0; i < 4; i++) got.push_back(c.recv());
                 }).blocks());
    EXPECT_EQ(got, (std::vector<std::optional<int>>{1, 2, {}, {}})) << "the sender that was refused left nothing";
  });
}
TEST_F(ReceiveOperator, SaysWhetherTheValueWasSent) {
  chan<int> c(1);
  c.send(0);
  c.close();
  EXPECT_TRUE(c.recv().has_value()) << "a zero that was sent";
  EXPECT_FALSE(c.recv().has_value());
  int v = 7;
  EXPECT_EQ(c.try_recv(v), recv_result::closed);
  EXPECT_EQ(v, 7);
}

// ---- Close

TEST_F(Close, OfAClosedOrNilChannelThrows_AndChangesNothing) {
  chan<int> c(1);
  c.send(1);
  c.close();
  EXPECT_THROW(c.close(), channel_error);
  EXPECT_THROW(send_chan<int>(c).close(), channel_error);
  EXPECT_EQ(c.recv(), 1);
  EXPECT_THROW(chan<int>(nil).close(), channel_error);
  EXPECT_THROW(send_chan<int>(nil).close(), channel_error);
}
TEST_F(Close, OfTwoAtOnceExactlyOneSucceeds) {
  for (int i = 0; i < scaled(2000); i++) {
    chan<int> c;
    std::atomic<int> threw{0};
    wait_group w;
    for (int g = 0; g < 2; g++)
      w.go([&] {
        try {
          c.close();
        } catch (const channel_error&) {
          threw++;
        }
      });
    w.wait();
    EXPECT_EQ(threw, 1);
  }
}
TEST_F(Close, WakesEveryReceiver) {
  run([] {
    chan<int> c;
    std::vector<attempt> all;
    for (int i = 0; i < 10; i++) {
      if (i % 2) all.emplace_back([=] { EXPECT_EQ(c.recv(), std::nullopt); });
      else all.emplace_back([=] { select(on_recv(c, [](std::optional<int> v) { EXPECT_EQ(v, std::nullopt); })); });
      EXPECT_TRUE(all.back().blocks());
    }
    c.close();
    for (auto& a : all) a.join();
  });
}

// ---- For statements with range clause

TEST_F(Range, GivesValuesUntilClosed_NoneOfAnEmptyOne) {
  run([] {
    chan<int> c(3);
    std::vector<int> got;
    attempt loop([&] {
      for (int v : c) got.push_back(v);
    });
    EXPECT_TRUE(loop.blocks());
    for (int i = 0; i < 5; i++) c.send(i);
    c.close();
    loop.join();
    EXPECT_EQ(got, (std::vector<int>{0, 1, 2, 3, 4}));
    for (int v : c) FAIL() << v;
  });
}
TEST_F(Range, ThatIsLeftEarlyLeavesTheRest) {
  chan<int> c(3);
  for (int i = 0; i < 3; i++) c.send(i);
  for (int v : c)
    if (v == 0) break;
  EXPECT_EQ(c.size(), 2u);
  EXPECT_EQ(c.recv(), 1);
}

// ---- Select statements

// In whatever order C++ evaluates arguments; in Go in that of the source.
TEST_F(SelectStatement, EvaluatesEachOperandOnce_WhicheverIsChosen) {
  run([] {
    chan<int> a, b(1);
    std::atomic<int> channels = 0, values = 0;
    auto channel = [&](chan<int> c) { return channels++, c; };
    auto value = [&]() -> int { return values++; };
    EXPECT_EQ(select(on_recv(channel(a)), on_send(channel(a), value()), on_send(channel(b), value())), 2u);
    EXPECT_EQ(channels, 3);
    EXPECT_EQ(values, 2);
    attempt waiting([&] { select(on_send(channel(a), value()), on_send(channel(b), value())); });
    EXPECT_TRUE(waiting.blocks());
    EXPECT_EQ(channels, 5);
    EXPECT_EQ(values, 4);
    EXPECT_TRUE(a.recv());
    waiting.join();
    EXPECT_EQ(channels + values, 9);
  });
}
TEST_F(SelectStatement, DoesOnlyTheOneThatIsChosen) {
  chan<owned> a(1), b(1);
  owned x(1), y(2);
  std::optional<owned> in;
  auto chosen = select(on_send(a, std::move(x)), on_send(b, std::move(y)), on_recv(a, in), on_recv(b, in));
  EXPECT_LT(chosen, 2u);
  EXPECT_EQ(id_of(x), chosen == 0 ? no_id : 1);
  EXPECT_EQ(id_of(y), chosen == 1 ? no_id : 2);
  EXPECT_EQ(a.size() + b.size(), 1u);
  EXPECT_FALSE(in) << "assigned only where a receive is chosen";
}
TEST_F(SelectStatement, TakesDefaultOnlyIfNothingCanGoOn) {
  run([] {
    chan<int> c, none = nil;
    EXPECT_EQ(select(on_recv(c), on_send(c, 1), on_recv(none), on_default()), 3u) << "its own two cases do not meet";
    attempt sender([=] { c.send(5); });
    EXPECT_TRUE(sender.blocks());
    for (int i = 0; i < 100; i++) EXPECT_EQ(select(on_default(), on_send(c, 1)), 0u);
    EXPECT_EQ(select(on_default(), on_recv(c)), 1u);
    sender.join();
    c.close();
    EXPECT_EQ(select(on_default(), on_recv(c)), 1u);
  });
}
TEST_F(SelectStatement, WithoutDefaultWaitsForTheFirst) {
  run([] {
    chan<int> a, b(1);
    std::size_t fired = 9;
    b.send(0);
    attempt waiting([&] { fired = select(on_recv(a), on_send(b, 1), on_recv(chan<int>(nil))); });
    EXPECT_TRUE(waiting.blocks());
    b.recv();
    waiting.join();
    EXPECT_EQ(fired, 1u);
    EXPECT_EQ(b.recv(), 1);
    EXPECT_FALSE(a.try_send(1)) << "it no longer waits there";
  });
}
TEST_F(SelectStatement, OfTwoOnTheSameChannelsMeet) {
  run([] {
    chan<int> a, b;
    for (int i = 0; i < 100; i++) {
      attempt left([=] { select(on_send(a, 1), on_recv(b)); });
      EXPECT_TRUE(left.blocks());
      EXPECT_FALSE(attempt([=] { select(on_recv(a), on_send(b, 1)); }).blocks());
      left.join();
    }
  });
}

// ---- The memory model

// What a goroutine begins with happened before it: the go statement's past.
TEST_F(MemoryModel, GoStatement_BeforeTheGoroutineBegins) {
  for (int i = 0; i < scaled(2000); i++) {
    int x = i, seen = -1;
    wait_group w;
    w.add(1);
    go([&] {
      seen = x;
      w.done();
    });
    w.wait();
    EXPECT_EQ(seen, i);
  }
}

// The ways to send and to receive, all of which count as one.
constexpr int ways = 4;
void signal(const chan<int>& c, int way) {
  if (way == 0) c.send(0);
  else if (way == 1) select(on_send(c, 0), on_recv(chan<int>(nil)));
  else if (way == 2) select(on_send(c, 0), on_timeout(1h));
  else
    while (!c.try_send(0)) yield();
}
void await(const chan<int>& c, int way) {
  int v;
  if (way == 0) c.recv();
  else if (way == 1) select(on_recv(c), on_recv(chan<int>(nil)));
  else if (way == 2) select(on_recv(c), on_timeout(1h));
  else
    while (c.try_recv(v) == recv_result::empty) yield();
}

TEST_F(MemoryModel, Send_BeforeItsReceiveCompletes) {
  for (int capacity : {0, 1, 3})
    for (int way = 0; way < ways * ways; way++) {
      if (!capacity && way == ways * ways - 1) continue; // two that never wait never meet
      chan<int> c(capacity);
      int n = scaled(400);
      std::vector<int> x(n);
      go([=, &x] {
        for (int i = 0; i < n; i++) {
          x[i] = i + 1;
          signal(c, way % ways);
        }
      });
      for (int i = 0; i < n; i++) {
        await(c, way / ways);
        EXPECT_EQ(x[i], i + 1);
      }
    }
}
TEST_F(MemoryModel, Close_BeforeAReceiveThatFindsItClosed) {
  for (int i = 0; i < scaled(2000); i++) {
    chan<int> c;
    int x = 0;
    wait_group w;
    for (int g = 0; g < 4; g++)
      w.go([&, g] {
        await(c, g);
        EXPECT_EQ(x, 1);
      });
    w.go([&] {
      while (!c.closed()) yield();
      EXPECT_EQ(x, 1);
    });
    if (i % 2) yield();
    x = 1;
    c.close();
    w.wait();
  }
}
TEST_F(MemoryModel, KthReceive_BeforeTheSendKPlusCapacityCompletes) {
  for (int capacity : {0, 1, 3}) // 0: a receive from an unbuffered channel comes before its send completes
    for (int way = 0; way < ways * ways; way++) {
      if (!capacity && way == ways * ways - 1) continue;
      chan<int> c(capacity);
      int n = scaled(400) + capacity;
      std::vector<int> x(n);
      wait_group receiver;
      receiver.go([=, &x] {
        for (int k = 0; k < n; k++) {
          x[k] = k + 1;
          await(c, way % ways);
        }
      });
      for (int i = 0; i < n; i++) {
        signal(c, way / ways);
        if (i < capacity) continue;
        EXPECT_EQ(x[i - capacity], i - capacity + 1);
      }
      receiver.wait();
    }
}
TEST_F(MemoryModel, ACapacityBoundsWhoIsInside) {
  for (int capacity : {1, 3}) {
    chan<void> limit(capacity);
    long alone = 0; // plain: with one place the channel is a lock
    std::atomic<int> inside{0};
    wait_group w;
    for (int g = 0; g < 8; g++)
      w.go([&] {
        for (int i = 0; i < scaled(500); i++) {
          limit.send();
          EXPECT_LE(++inside, capacity);
          if (capacity == 1) alone++;
          if (i % 16 == 0) yield();
          inside--;
          limit.recv();
        }
      });
    w.wait();
    EXPECT_EQ(alone, capacity == 1 ? 8L * scaled(500) : 0);
  }
}
TEST_F(MemoryModel, Unlock_BeforeALaterLock_HoweverItWasTaken) {
  mutex m;
  long x = 0, taken = 0;
  wait_group w;
  for (int g = 0; g < 8; g++)
    w.go([&, g] {
      for (int i = 0; i < scaled(2000); i++) {
        if (g % 3 == 0) m.lock();
        else if (g % 3 == 1) {
          if (!m.try_lock()) continue;
        } else if (!m.try_lock_for(1h)) continue;
        x++;
        taken++;
        if (i % 64 == 0) yield();
        m.unlock();
      }
    });
  std::thread outside([&] {
    for (int i = 0; i < scaled(2000); i++) {
      std::lock_guard hold(m);
      x++;
      taken++;
    }
  });
  outside.join();
  w.wait();
  EXPECT_EQ(x, taken);
}
TEST_F(MemoryModel, RWMutex_ReadersAfterTheWriterBefore_WritersAfterAllReaders) {
  shared_mutex m;
  long x = 0, y = 0;
  wait_group w;
  for (int g = 0; g < 6; g++)
    w.go([&, g] {
      for (int i = 0; i < scaled(1000); i++) {
        if (g % 3) {
          std::shared_lock hold(m);
          EXPECT_EQ(x, y);
        } else {
          std::unique_lock hold(m);
          x++;
          if (i % 32 == 0) yield();
          y++;
        }
      }
    });
  w.wait();
  EXPECT_EQ(x, 2L * scaled(1000));
}
TEST_F(MemoryModel, Once_ItsFunctionBeforeAnyCallReturns) {
  for (int i = 0; i < scaled(2000); i++) {
    once_flag once;
    int x = 0;
    wait_group w;
    for (int g = 0; g < 4; g++)
      w.go([&] {
        call_once(once, [&] {
          if (i % 8 == 0) yield();
          x++;
        });
        EXPECT_EQ(x, 1);
      });
    w.wait();
  }
}
TEST_F(MemoryModel, Done_BeforeTheWaitItLetsGo) {
  for (int i = 0; i < scaled(2000); i++) {
    std::array<int, 4> x{};
    wait_group w;
    for (int& v : x) w.go([&v] { v = 1; });
    wait_group waiters;
    for (int g = 0; g < 2; g++)
      waiters.go([&] {
        w.wait();
        EXPECT_EQ(x[0] + x[1] + x[2] + x[3], 4);
      });
    EXPECT_TRUE(w.wait_for(1h));
    EXPECT_EQ(x[0] + x[1] + x[2] + x[3], 4);
    waiters.wait();
  }
}
TEST_F(MemoryModel, Notify_BeforeTheWaitItEnds) {
  mutex m, other;
  condition_variable c;
  int round = 0, x = 0, n = scaled(2000);
  wait_group w;
  w.go([&] {
    for (int i = 1; i <= n; i++) {
      std::unique_lock hold(m);
      c.wait(hold, [&] { return round == i; });
      EXPECT_EQ(x, i);
      round = 0;
      c.notify_all();
    }
  });
  for (int i = 1; i <= n; i++) {
    std::unique_lock hold(m);
    x = i;
    round = i;
    c.notify_one();
    c.wait(hold, [&] { return round == 0; });
  }
  w.wait();
}
TEST_F(MemoryModel, Release_CountDown_Arrive_BeforeWhatTheyLetGo) {
  for (int i = 0; i < scaled(1000); i++) {
    counting_semaphore<> s(0);
    latch l(2);
    barrier<> b(3);
    std::array<int, 2> x{}, y{}, z{};
    wait_group w;
    for (int g = 0; g < 2; g++)
      w.go([&, g] {
        x[g] = 1;
        s.release();
        y[g] = 1;
        l.count_down();
        z[g] = 1;
        b.arrive_and_wait();
        EXPECT_EQ(z[0] + z[1], 2);
      });
    s.acquire(2);
    EXPECT_EQ(x[0] + x[1], 2);
    l.wait();
    EXPECT_EQ(y[0] + y[1], 2);
    b.arrive_and_wait();
    EXPECT_EQ(z[0] + z[1], 2);
    w.wait();
  }
}
// What was done before a timer was set comes before what it starts or sends.
TEST_F(MemoryModel, SettingATimer_BeforeItsFunctionAndItsValue) {
  for (int i = 0; i < scaled(500); i++) {
    int x = i, seen = -1;
    chan<int> done(1);
    timer t = after_func(10us, [&, done] {
      seen = x;
      done.send(0);
    });
    done.recv();
    EXPECT_EQ(seen, i);
    x = i + 1;
    recv_chan<time_point> due = after(10us);
    go([=, &x] {
      due.recv();
      done.send(x);
    });
    EXPECT_EQ(done.recv(), i + 1);
  }
}
} // namespace
