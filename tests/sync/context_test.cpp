// context: the tree, who is told of its end, and every wait that takes one.
#include "tests/support/fixture.hpp"

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using Context = GrtTest;
using ContextAfter = GrtTest;
using ContextWait = GrtTest;

struct User {
  using type = std::string;
};
struct Id {
  using type = int;
};
const auto canceled = std::make_error_code(std::errc::operation_canceled);
const auto timed_out = std::make_error_code(std::errc::timed_out);

std::string said(std::exception_ptr e) {
  if (!e) return "";
  try {
    std::rethrow_exception(e);
  } catch (std::exception& x) {
    return x.what();
  }
}
template <class F> std::error_code error_from(F f) {
  try {
    f();
  } catch (std::system_error& e) {
    return e.code();
  }
  return {};
}
bool closed(const context& c) { return c.done().try_recv() == recv_result::closed; }

TEST_F(Context, BackgroundNeverEnds) {
  context c = background();
  EXPECT_FALSE(c.err());
  EXPECT_FALSE(c.done());
  EXPECT_FALSE(c.cause());
  EXPECT_FALSE(c.deadline());
  cancel_func none;
  none();
}

TEST_F(Context, CancelEndsItAndAllBelow_TheFirstCounts) {
  auto [a, cancel] = with_cancel(background());
  auto [b, cancel_b] = with_cancel(a);
  context v = with_value<Id>(b, 1);
  auto [c, cancel_c] = with_cancel(v);
  auto [other, cancel_other] = with_cancel(a);
  EXPECT_TRUE(b.done() == v.done());
  EXPECT_FALSE(closed(b));
  cancel_b(std::make_exception_ptr(std::runtime_error("why")));
  cancel_b();
  for (const context& x : {b, v, c}) {
    EXPECT_EQ(x.err(), canceled);
    EXPECT_TRUE(closed(x));
    EXPECT_EQ(said(x.cause()), "why");
  }
  EXPECT_FALSE(a.err() || other.err());
  cancel();
  EXPECT_EQ(other.err(), canceled);
  EXPECT_EQ(said(other.cause()), said(a.cause()));
  EXPECT_THROW(std::rethrow_exception(a.cause()), std::system_error);
  EXPECT_EQ(said(b.cause()), "why");
  auto [late, cancel_late] = with_cancel(c);
  EXPECT_EQ(late.err(), canceled);
  EXPECT_TRUE(closed(late));
  EXPECT_EQ(said(late.cause()), "why");
  cancel_other(), cancel_c(), cancel_late();
}

TEST_F(Context, ValuesAreFoundUpTheTree) {
  context a = with_value<User>(background(), "ada");
  auto [b, cancel] = with_cancel(a);
  defer d{cancel};
  context c = with_value<Id>(b, 7), e = with_value<User>(c, "eve");
  EXPECT_EQ(*c.value<User>(), "ada");
  EXPECT_EQ(*e.value<User>(), "eve");
  EXPECT_EQ(*e.value<Id>(), 7);
  EXPECT_EQ(a.value<Id>(), nullptr);
  EXPECT_EQ(background().value<Id>(), nullptr);
  context free = without_cancel(e);
  cancel();
  EXPECT_TRUE(e.err());
  EXPECT_FALSE(free.err());
  EXPECT_FALSE(free.done());
  EXPECT_EQ(*free.value<User>(), "eve");
  auto [under, cancel_under] = with_cancel(free);
  EXPECT_FALSE(under.err());
  cancel_under();
  EXPECT_TRUE(under.err());
}

// A wait with a shielded context goes on after its parent's end, and a deadline above it is not inherited.
TEST_F(Context, WithoutCancel_ShieldsWaitsAndDeadlines) {
  auto [parent, cancel] = with_timeout(with_value<User>(background(), "ada"), 1h);
  context free = without_cancel(parent);
  EXPECT_TRUE(parent.deadline());
  EXPECT_FALSE(free.deadline());
  chan<int> c;
  wait_group w;
  w.go([&, &parent = parent] { EXPECT_THROW(c.recv(parent), std::system_error); });
  w.go([&] { EXPECT_EQ(c.recv(free), 5); });
  await_waiting(2);
  cancel();
  await_waiting(1);
  c.send(5);
  w.wait();
  EXPECT_FALSE(free.err());
  EXPECT_FALSE(free.cause());
  EXPECT_EQ(*free.value<User>(), "ada");
  EXPECT_FALSE(without_cancel(background()).err());
  auto [under, cancel_under] = with_timeout(free, 1ms);
  under.done().recv();
  EXPECT_EQ(under.err(), timed_out) << "below the shield contexts end as ever";
  cancel_under();
}

TEST_F(Context, HandlesAreShared_MovedFromIsTheBackground) {
  auto [a, cancel] = with_cancel(background());
  context b = a, c = std::move(a);
  cancel_func again = cancel, moved = std::move(cancel);
  EXPECT_FALSE(a.done()); // NOLINT(bugprone-use-after-move)
  cancel();               // NOLINT(bugprone-use-after-move)
  EXPECT_FALSE(b.err());
  moved();
  EXPECT_TRUE(b.err() && c.err());
  again();
  b = context();
  EXPECT_FALSE(b.err());
}

TEST_F(Context, TimeoutEnds_NeverEarly_CauseIsTheError) {
  auto t0 = std::chrono::steady_clock::now();
  auto [a, cancel] = with_timeout(background(), 5ms);
  auto [b, cancel_b] = with_cancel(a);
  EXPECT_GE(*a.deadline(), t0 + 5ms);
  EXPECT_EQ(b.deadline(), a.deadline());
  b.done().recv();
  EXPECT_GE(std::chrono::steady_clock::now() - t0, 5ms);
  EXPECT_EQ(a.err(), timed_out);
  EXPECT_EQ(b.err(), timed_out);
  EXPECT_EQ(error_from([&, &b = b] { std::rethrow_exception(b.cause()); }), timed_out);
  cancel();
  EXPECT_EQ(a.err(), timed_out);
  cancel_b();
}

TEST_F(Context, TheEarlierDeadlineCounts_APastOneHasEnded) {
  auto now = std::chrono::steady_clock::now();
  auto [a, cancel] = with_deadline(background(), now + 1h);
  auto [b, cancel_b] = with_deadline(a, now + 2h);
  auto [c, cancel_c] = with_deadline(a, now + 1min);
  EXPECT_EQ(b.deadline(), now + 1h);
  EXPECT_EQ(c.deadline(), now + 1min);
  for (time_point t : {now, time_point::min()}) {
    auto [past, cancel_past] = with_deadline(c, t);
    EXPECT_EQ(past.err(), timed_out);
    EXPECT_TRUE(closed(past));
    cancel_past();
  }
  auto [zero, cancel_zero] = with_timeout(background(), -1s);
  EXPECT_EQ(zero.err(), timed_out);
  auto [ever, cancel_ever] = with_timeout(background(), std::chrono::hours::max());
  auto [max, cancel_max] = with_deadline(background(), time_point::max());
  EXPECT_FALSE(ever.err() || max.err() || max.deadline());
  cancel();
  EXPECT_EQ(b.err(), canceled);
  EXPECT_EQ(c.err(), canceled);
  auto [late, cancel_late] = with_deadline(b, now);
  EXPECT_EQ(late.err(), canceled) << "the parent's end came first";
  cancel_zero(), cancel_ever(), cancel_max(), cancel_b(), cancel_c(), cancel_late();
}

// The channel outlives context and cancel function: the parent, or the timer, still closes it.
TEST_F(Context, DoneChannelOutlivesItsContext) {
  auto [a, cancel] = with_cancel(background());
  recv_chan<void> below = with_cancel(a).first.done();
  recv_chan<void> timer = with_timeout(background(), 2ms).first.done();
  EXPECT_EQ(below.try_recv(), recv_result::empty);
  EXPECT_FALSE(timer.recv());
  cancel();
  EXPECT_FALSE(below.recv());
}

TEST_F(Context, HundredThousandChildren) {
  auto [root, cancel] = with_cancel(background());
  int n = scaled(100000);
  std::vector<context> kept;
  for (int i = 0; i < n; i++) {
    auto [c, stop] = with_cancel(root);
    if (i % 3 == 0) stop();
    if (i % 3 == 1) kept.push_back(c);
  }
  cancel();
  for (auto& c : kept) ASSERT_EQ(c.err(), canceled);
}

TEST_F(Context, DeepChain_NeitherEndNorDestructionRecurses) {
  run([] {
    int n = scaled(100000);
    for (bool ended : {true, false}) {
      auto [root, cancel] = with_cancel(background());
      context leaf = root;
      for (int i = 0; i < n; i++) leaf = i % 4 == 3 ? with_value<Id>(leaf, i) : with_cancel(leaf).first;
      if (ended) {
        cancel();
        EXPECT_EQ(leaf.err(), canceled);
      }
      EXPECT_EQ(*leaf.value<Id>(), n / 4 * 4 - 1);
    }
  });
}

// err() and done() agree, whoever ends it: a plain thread, a goroutine, the timer.
TEST_F(Context, ErrAndDoneAgreeWhileItEnds) {
  int rounds = scaled(2000);
  for (int i = 0; i < rounds; i++) {
    auto [a, cancel] = with_timeout(background(), std::chrono::microseconds(i % 3 ? 1000000 : 20));
    auto [b, cancel_b] = with_cancel(a);
    std::thread outside;
    if (i % 16 == 1) outside = std::thread(cancel);
    else if (i % 3) go(cancel);
    wait_group w;
    for (int k = 0; k < 3; k++)
      w.go([&, k, &b = b] {
        if (k % 2) {
          while (!b.err()) yield();
          EXPECT_TRUE(closed(b));
        } else {
          b.done().recv();
          EXPECT_TRUE(b.err());
          EXPECT_TRUE(b.cause());
        }
      });
    w.wait();
    if (outside.joinable()) outside.join();
    cancel();
  }
}

// In one thread: err(), done() and calls that fail agree at every moment, and cancel() has ended it when it returns,
// also the one that lost.
TEST_F(Context, ErrDoneAndFailingCallsAgree_AtEveryMoment) {
  int rounds = scaled(3000);
  for (int i = 0; i < rounds; i++) {
    auto [a, cancel] = with_timeout(background(), std::chrono::microseconds(i % 3 ? 1000000 : 20));
    auto [b, cancel_b] = with_cancel(a);
    if (i % 2) (void)b.done();
    if (i % 4 < 2) (void)a.done();
    mutex held;
    held.lock();
    auto look = [&, &a = a, &b = b](bool& over) {
      for (const context* c : {&a, &b}) {
        if (closed(*c)) {
          EXPECT_TRUE(c->err()) << "done() first";
        }
        if (c->err()) {
          EXPECT_TRUE(closed(*c)) << "err() first";
          EXPECT_TRUE(c->cause());
          EXPECT_TRUE(error_from([&] { held.lock(*c); }));
        }
        if (auto e = error_from([&] { sleep_for(0ns, *c); })) {
          EXPECT_EQ(c->err(), e);
          EXPECT_TRUE(closed(*c));
        }
      }
      auto [late, cancel_late] = with_cancel(a);
      if (late.err()) {
        EXPECT_TRUE(a.err()) << "the child first";
      }
      over = static_cast<bool>(b.err());
    };
    wait_group w;
    for (int k = 0; k < 2; k++)
      w.go([&] {
        for (bool over = false; !over; yield()) look(over);
      });
    w.go([&, &a = a] {
      EXPECT_TRUE(error_from([&] { held.lock(a); }));
      EXPECT_TRUE(a.err());
    });
    auto end = [&, &a = a, &cancel = cancel] {
      cancel();
      EXPECT_TRUE(a.err());
      EXPECT_TRUE(closed(a));
    };
    if (i % 3) {
      std::thread outside;
      if (i % 16 == 1) outside = std::thread(end);
      w.go(end);
      end();
      if (outside.joinable()) outside.join();
    }
    w.wait();
    cancel_b();
    held.unlock();
  }
}

// Somebody is about to close the done channel, and cannot yet: nothing has ended, nobody waits for it, and whoever
// comes is told as soon as it has.
TEST_F(Context, WhileItsChannelIsBeingClosed_ErrDoesNotWait) {
#if GRT_DETAIL_TSAN
  GTEST_SKIP() << "there the look at a channel takes its lock, so that ThreadSanitizer sees it";
#endif
  auto [c, cancel] = with_cancel(background());
  auto [child, cancel_child] = with_cancel(c);
  recv_chan<void> done = c.done();
  detail::chan_core* core = detail::access::core(done);
  detail::ending* e = detail::ending_of(c);
  detail::chan_lock(core);
  std::thread ender(cancel);
  while (!e->state.load()) std::this_thread::yield();
  EXPECT_FALSE(c.err());
  EXPECT_FALSE(child.err());
  EXPECT_FALSE(c.cause());
  EXPECT_FALSE(e->over());
  auto [late, cancel_late] = with_cancel(c);
  EXPECT_FALSE(late.err());
  chan<void> ran(1);
  (void)context_after_func(c, [ran] { ran.send(); });
  counting_semaphore<> none(0);
  std::error_code failed;
  std::thread waiter([&, &c = c] { failed = error_from([&] { none.acquire(c); }); });
  detail::chan_unlock(core);
  ender.join();
  waiter.join();
  EXPECT_EQ(failed, canceled);
  EXPECT_EQ(late.err(), canceled);
  EXPECT_EQ(child.err(), canceled);
  EXPECT_TRUE(closed(c) && closed(late));
  ran.recv();
  cancel_child(), cancel_late();
}

TEST_F(Context, CancelRacesWithDestructionOfChildren) {
  int rounds = scaled(300);
  for (int i = 0; i < rounds; i++) {
    auto [root, cancel] = with_cancel(background());
    wait_group w;
    std::atomic<bool> over{false};
    for (int k = 0; k < 4; k++)
      w.go([&, &root = root] {
        std::optional<recv_chan<void>> kept;
        for (int j = 0; !over || j < 10; j++) {
          auto [c, stop] = with_timeout(root, std::chrono::microseconds(j % 5 * 50 + 1));
          auto [d, stop_d] = with_cancel(c);
          if (j % 3 == 0) kept = d.done();
          if (j % 4 == 0) stop();
          if (j % 16 == 0) yield();
        }
        if (kept) kept->recv();
      });
    for (int j = 0; j < i % 7; j++) yield();
    if (i % 2) std::thread(cancel).join();
    else cancel();
    over = true;
    w.wait();
  }
}

TEST_F(Context, TimersRaceWithCancelAndDestruction) {
  run([] {
    int rounds = scaled(20000);
    wait_group w;
    for (int k = 0; k < 4; k++)
      w.go([&, k] {
        for (int i = 0; i < rounds; i++) {
          auto [c, cancel] = with_timeout(background(), std::chrono::microseconds(i % 40));
          if (i % 3 == 0) cancel();
          if (i % 5 == 0) yield();
          if ((i + k) % 7 == 0) {
            c.done().recv();
            EXPECT_TRUE(c.err());
          }
        }
      });
    w.wait();
  });
}

// ---- functions after the end

TEST_F(ContextAfter, RunsOnce_InItsOwnGoroutine) {
  auto [c, cancel] = with_cancel(background());
  chan<std::uint64_t> ran(4);
  auto f = [ran] { ran.send(this_goroutine::id()); };
  stop_func first = context_after_func(c, f);
  stop_func stopped = context_after_func(c, f);
  stop_func named = context_after_func({.name = "last"}, c, [ran] {
    EXPECT_EQ(this_goroutine::name(), "last");
    ran.send(this_goroutine::id());
  });
  EXPECT_TRUE(stopped());
  EXPECT_FALSE(stopped());
  cancel();
  EXPECT_FALSE(first());
  EXPECT_FALSE(named());
  std::uint64_t a = *ran.recv(), b = *ran.recv();
  EXPECT_TRUE(a && b && a != b);
  stop_func at_once = context_after_func(c, f);
  EXPECT_NE(ran.recv(), 0u);
  EXPECT_FALSE(at_once());
  stop_func never = context_after_func(background(), f), empty;
  EXPECT_TRUE(never());
  EXPECT_FALSE(never());
  EXPECT_FALSE(empty());
  EXPECT_EQ(ran.size(), 0u);
}

TEST_F(ContextAfter, WhatItHoldsGoesWithStopOrRun) {
  auto held = std::make_shared<int>(1);
  auto [c, cancel] = with_cancel(background());
  stop_func a = context_after_func(c, [held] {}), b = context_after_func(c, [held] {});
  EXPECT_EQ(held.use_count(), 3);
  a();
  EXPECT_EQ(held.use_count(), 2);
  cancel();
  while (held.use_count() > 1) sleep_for(1ms);
  struct thrower {
    thrower() = default;
    thrower(const thrower&) { throw std::runtime_error("copy"); }
    void operator()() const {}
  } t;
  EXPECT_THROW((void)context_after_func(c, t), std::runtime_error);
}

TEST_F(ContextAfter, ADeadlineRunsIt_ThoughNobodyKeepsTheContext) {
  chan<void> ran;
  (void)context_after_func(with_timeout(background(), 2ms).first, [ran] { ran.send(); });
  ran.recv();
}

TEST_F(ContextAfter, StopRacesWithCancel_ExactlyOneHappens) {
  int rounds = scaled(3000);
  for (int i = 0; i < rounds; i++) {
    auto [c, cancel] = with_cancel(background());
    std::atomic<int> ran{0}, stopped{0};
    std::array<stop_func, 8> stops;
    wait_group w;
    w.add(8);
    for (int k = 0; k < 8; k++)
      stops[k] = context_after_func(c, [&] {
        ran++;
        w.done();
      });
    for (int k = 0; k < 2; k++)
      w.go([&, k] {
        for (int j = k; j < 8; j += 2)
          if (stops[j]()) {
            stopped++;
            w.done();
          }
      });
    cancel();
    w.wait();
    ASSERT_EQ(ran + stopped, 8);
  }
}

// ---- every wait that takes a context

struct waits {
  chan<int> numbers, full{1};
  chan<void> signals;
  mutex m;
  shared_mutex s;
  wait_group w;
  counting_semaphore<> sem{0};
  latch l{1};
  barrier<> b{2};
  std::mutex unused;
  condition_variable cv;

  // Each blocks until its context ends.
  std::vector<std::function<void(const context&)>> all() {
    return {
        [&](const context& c) { numbers.recv(c); },
        [&](const context& c) { numbers.send(1, c); },
        [&](const context& c) { full.send(1, c); },
        [&](const context& c) { signals.recv(c); },
        [&](const context& c) { signals.send(c); },
        [&](const context& c) { recv_chan<int>(numbers).recv(c); },
        [&](const context& c) { send_chan<void>(signals).send(c); },
        [&](const context& c) { chan<int>(nil).recv(c); },
        [&](const context& c) { chan<int>(nil).send(1, c); },
        [&](const context& c) { m.lock(c); },
        [&](const context& c) { s.lock(c); },
        [&](const context& c) { s.lock_shared(c); },
        [&](const context& c) { w.wait(c); },
        [&](const context& c) { sem.acquire(c); },
        [&](const context& c) { sem.acquire(2, c); },
        [&](const context& c) { l.wait(c); },
        [&](const context& c) {
          defer complete{[&] { (void)b.arrive(); }};
          b.wait(b.arrive(), c);
        },
        [&](const context& c) {
          mutex own;
          std::unique_lock hold(own);
          defer check{[&] { EXPECT_TRUE(hold.owns_lock() && !own.try_lock()); }};
          cv.wait(hold, c);
        },
        [&](const context& c) {
          mutex own;
          std::unique_lock hold(own);
          cv.wait(hold, c, [] { return false; });
        },
        [&](const context& c) { sleep_for(1h, c); },
        [&](const context& c) { sleep_until(time_point::max() - 1h, c); },
    };
  }
  waits() {
    full.send(0);
    m.lock();
    s.lock();
    w.add(1);
  }
  ~waits() {
    m.unlock();
    s.unlock();
    w.done();
  }
};

TEST_F(ContextWait, EachEndsWithTheContext_OnGoroutinesAndThreads) {
  waits x;
  int i = 0;
  for (auto& f : x.all()) {
    SCOPED_TRACE(i++);
    auto ended = with_timeout(background(), 0s);
    EXPECT_EQ(error_from([&] { f(ended.first); }), timed_out);
    auto soon = with_timeout(background(), 1ms);
    EXPECT_EQ(error_from([&] { f(soon.first); }), timed_out);
    auto [c, cancel] = with_cancel(background());
    wait_group w;
    w.go([&, &c = c] { EXPECT_EQ(error_from([&] { f(c); }), canceled); });
    if (i % 2) sleep_for(1ms);
    std::thread outside(cancel);
    w.wait();
    outside.join();
  }
}

TEST_F(ContextWait, AnEndedContextFailsWhatCouldGoOn_AnOpenOneDoesNot) {
  chan<int> c(1);
  mutex m;
  shared_mutex s;
  wait_group w;
  counting_semaphore<> sem(3);
  latch l(0);
  condition_variable cv;
  std::unique_lock hold(m, std::defer_lock);
  std::vector<std::function<void(const context&)>> ops = {
      [&](const context& x) { c.send(1, x); },
      [&](const context& x) { EXPECT_EQ(c.recv(x), 1); },
      [&](const context& x) { m.lock(x), m.unlock(); },
      [&](const context& x) { s.lock(x), s.unlock(); },
      [&](const context& x) { s.lock_shared(x), s.unlock_shared(); },
      [&](const context& x) { w.wait(x); },
      [&](const context& x) { sem.acquire(x), sem.acquire(2, x), sem.release(3); },
      [&](const context& x) { l.wait(x); },
      [&](const context& x) { sleep_for(0s, x); },
      [&](const context& x) {
        hold.lock();
        defer d{[&] { hold.unlock(); }};
        cv.wait(hold, x, [] { return true; });
      },
  };
  auto [open, cancel] = with_cancel(background());
  auto [over, cancel_over] = with_cancel(background());
  cancel_over();
  for (auto& f : ops) {
    for (const context& x : {background(), open}) {
      if (&f == &ops[1]) c.send(1);
      EXPECT_NO_THROW(f(x));
      if (&f == &ops[0]) c.recv();
    }
    EXPECT_EQ(error_from([&, &over = over] { f(over); }), canceled);
  }
  cancel();
}

TEST_F(ContextWait, ClosedChannels) {
  auto [x, cancel] = with_cancel(background());
  chan<int> c;
  go([c] {
    sleep_for(1ms);
    c.close();
  });
  EXPECT_EQ(c.recv(x), std::nullopt);
  EXPECT_THROW(c.send(1, x), channel_error);
  cancel();
}

// The lock is handed over, or the count granted, at the very moment of the end: it is either got or stays to be got.
TEST_F(ContextWait, NothingGrantedIsLost) {
  run([] {
    mutex m;
    shared_mutex s;
    counting_semaphore<> sem(1);
    long inside = 0;
    std::atomic<long> got{0}, failed{0};
    wait_group w;
    int rounds = scaled(6000);
    for (int k = 0; k < 8; k++)
      w.go([&, k] {
        for (int i = 0; i < rounds; i++) {
          auto [c, cancel] = with_timeout(background(), std::chrono::microseconds((i * 7 + k) % 30));
          if ((i + k) % 5 == 0) go(cancel);
          try {
            switch ((i + k) % 4) {
            case 0: {
              m.lock(c);
              if (i % 3) yield();
              m.unlock();
              break;
            }
            case 1: {
              s.lock(c);
              inside++;
              if (i % 3) yield();
              EXPECT_EQ(--inside, 0);
              s.unlock();
              break;
            }
            case 2: {
              s.lock_shared(c);
              EXPECT_EQ(inside, 0);
              if (i % 3) yield();
              s.unlock_shared();
              break;
            }
            case 3: {
              sem.acquire(c);
              if (i % 3) yield();
              sem.release();
            }
            }
            got++;
          } catch (std::system_error&) {
            failed++;
            EXPECT_TRUE(c.err());
          }
          cancel();
        }
      });
    w.wait();
    EXPECT_EQ(got + failed, 8L * rounds);
    EXPECT_TRUE(m.try_lock() && s.try_lock() && sem.try_acquire());
    m.unlock();
    s.unlock();
  });
}

// A waiter of more than 1 ms is handed the lock by unlock(): then the end comes too late, whenever it looks.
TEST_F(ContextWait, AMutexHandedOverBeforeTheEndIsGot) {
  run([] {
    for (int i = 0; i < 20; i++) {
      mutex m;
      auto [c, cancel] = with_cancel(background());
      std::atomic<bool> got = false;
      m.lock();
      wait_group w;
      w.go([&, &c = c] {
        EXPECT_FALSE(error_from([&] { m.lock(c); }));
        got = true;
        m.unlock();
      });
      await_waiting(1, "mutex");
      sleep_for(1500us);
      m.unlock(); // wakes it, to find the lock taken again; from then on it is owed
      m.lock();
      while (!got && !waiting_for("mutex")) yield(); // got: it was faster than we
      m.unlock();
      cancel();
      w.wait();
      ASSERT_TRUE(got);
      std::lock_guard free(m);
    }
  });
}

TEST_F(ContextWait, ChannelValuesArriveOnceOrNotAtAll) {
  run([] {
    chan<int> c;
    chan<int> b(2);
    std::atomic<long> sent{0}, received{0};
    wait_group w;
    int rounds = scaled(6000);
    for (int k = 0; k < 4; k++) {
      w.go([&, k] {
        for (int i = 1; i <= rounds; i++) {
          auto [x, cancel] = with_timeout(background(), std::chrono::microseconds((i + k) % 9));
          if (!error_from([&, &x = x] { (i % 2 ? c : b).send(i, x); })) sent += i;
          cancel();
        }
      });
      w.go([&, k] {
        for (int i = 1; i <= rounds; i++) {
          auto [x, cancel] = with_cancel(background());
          if ((i + k) % 3) go(cancel);
          else go([cancel = cancel] { sleep_for(20us), cancel(); });
          error_from([&, &x = x] { received += *(i % 2 ? c : b).recv(x); });
        }
      });
    }
    w.wait();
    while (b.size()) received += *b.recv();
    EXPECT_EQ(sent, received);
  });
}

TEST_F(ContextWait, ThousandWaitersOfOneContext) {
  auto [c, cancel] = with_cancel(background());
  chan<int> never;
  latch l(1);
  std::atomic<int> ended{0};
  wait_group w;
  for (int i = 0; i < 1000; i++)
    w.go([&, i, &c = c] {
      if (error_from([&] { i % 2 ? l.wait(c) : void(never.recv(c)); }) == canceled) ended++;
    });
  await_waiting(1000);
  cancel();
  w.wait();
  EXPECT_EQ(ended, 1000);
}

TEST_F(ContextWait, SelectTakesItsDoneChannel) {
  auto [c, cancel] = with_timeout(background(), 1ms);
  chan<int> never;
  EXPECT_EQ(select(on_recv(never), on_recv(c.done())), 1u);
  EXPECT_EQ(c.err(), timed_out);
  EXPECT_EQ(select(on_recv(background().done()), on_timeout(1ms)), 1u);
  cancel();
}
} // namespace
