// tests/chan/throw_test.cpp - user code that throws: copies of elements and closures, handlers. Whatever was under way
// has either happened or not, and nothing is lost, left over or counted twice.
#include "tests/support/fixture.hpp"

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>

#include "sched/core/pin.hpp"
#include "sched/goroutine/slab.hpp"
#include "sched/runtime/threads.hpp"
#include "tests/support/attempt.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;

struct refused : std::runtime_error {
  refused() : std::runtime_error("refused") {}
};

/// Its copies throw while `allowed` is 0; counted. Bytes make a closure of it small or large.
template <std::size_t Bytes = 8, std::size_t Align = 8> class alignas(Align) picky {
public:
  explicit picky(int id) : id_(id) { live++; }
  picky(const picky& o) : id_(o.id_) {
    if (!allowed) throw refused();
    allowed--;
    live++;
  }
  picky(picky&& o) noexcept : id_(std::exchange(o.id_, -1)) { live++; }
  picky& operator=(picky&& o) noexcept {
    id_ = std::exchange(o.id_, -1);
    return *this;
  }
  ~picky() { live--; }
  int id() const { return id_; }
  void operator()() const {}
  static inline std::atomic<long> live{0};
  static inline std::atomic<int> allowed{0};

private:
  int id_;
  char more_[Bytes] = {};
};
using element = picky<>;

class Throws : public GrtTest {
protected:
  void TearDown() override {
    GrtTest::TearDown();
    EXPECT_EQ(element::live, 0);
  }
};
using ThrowingCopy = Throws;
using ThrowingHandler = Throws;
using Elements = Throws;

TEST_F(ThrowingCopy, InSend_NothingWasSent) {
  run([] {
    chan<element> c(1), direct;
    element x(1);
    attempt receiver([=] { EXPECT_EQ(direct.recv()->id(), 2); });
    EXPECT_TRUE(receiver.blocks());
    for (int i = 0; i < 3; i++) {
      EXPECT_THROW(c.send(x), refused);
      EXPECT_THROW(direct.send(x), refused);
      EXPECT_THROW(c.try_send(x), refused);
      EXPECT_THROW(direct.try_send(x), refused);
    }
    EXPECT_EQ(c.size(), 0u);
    EXPECT_TRUE(receiver.blocks());
    element::allowed = 1;
    c.send(x);
    EXPECT_THROW(c.try_send(x), refused); // full as well
    EXPECT_EQ(c.recv()->id(), 1);
    direct.send(element(2));
    receiver.join();
    EXPECT_EQ(x.id(), 1);
  });
}

TEST_F(ThrowingCopy, InASelectCase_NoCaseWasTried) {
  run([] {
    chan<element> c(1), other(1);
    element x(1), y(2);
    EXPECT_THROW(select(on_send(c, x), on_default()), refused);
    EXPECT_THROW(select(on_send(c, std::move(y)), on_send(other, x)), refused);
    EXPECT_EQ(y.id(), 2) << "moved from only if it fires";
    EXPECT_EQ(c.size() + other.size(), 0u);
    element::allowed = 1;
    EXPECT_EQ(select(on_send(c, x), on_default()), 0u);
    element::allowed = 1;
    EXPECT_EQ(select(on_send(c, x), on_default()), 1u);
    auto handler = [x = element(3)]() {};
    EXPECT_THROW(select(on_recv(c, handler)), refused);
    EXPECT_THROW(select(on_recv(other), on_timeout(1h, handler)), refused);
    EXPECT_THROW(select(on_recv(other), on_default(handler)), refused);
    EXPECT_EQ(c.recv()->id(), 1);
  });
}

template <class P> void go_that_throws() {
  P f(1);
  std::size_t before = goroutines();
  auto spawned = [&] { return debug::read_metrics().spawned; };
  auto started = spawned();
  auto all = [&] {
    EXPECT_THROW(go(f), refused);
    EXPECT_THROW(go([](const P&) {}, f), refused);
    EXPECT_THROW(go([](const P&, const P&) {}, P(2), f), refused);
    EXPECT_THROW(go(attr{.name = "named"}, f), refused);
    EXPECT_THROW(go(
                     attr{.stack_max = 1 << 20}, [](const P&) {}, f),
                 refused);
    wait_group w;
    EXPECT_THROW(w.go(f), refused);
    EXPECT_THROW(w.go(attr{.name = "named"}, f), refused);
    w.wait(); // nobody is counted
    EXPECT_THROW(after_func(1h, f), refused);
  };
  for (int i = 0; i < 20; i++) all();
  auto* slots = slab_end();
  auto then = debug::read_metrics();
  for (int i = 0; i < scaled(2000); i++) all();
  auto now = debug::read_metrics();
  if (now.handoffs == then.handoffs) { // else on another processor now, which has put by others
    EXPECT_LE(slab_end() - slots, 64) << "slots come back";
    EXPECT_LE(now.windows, then.windows + 2) << "stacks come back";
  }
  EXPECT_LE(goroutines(), before); // one may end only now
  EXPECT_EQ(spawned(), started);
  EXPECT_EQ(P::live, 1);
}
TEST_F(ThrowingCopy, InGo_NothingWasStarted) { // from a goroutine and from a thread; in the slot, boxed, over-aligned
  run(go_that_throws<element>);
  run(go_that_throws<picky<500>>);
  run(go_that_throws<picky<8, 16>>);
  go_that_throws<element>();
  go_that_throws<picky<500>>();
}
TEST_F(ThrowingCopy, InGoPinned_TheThreadIsKeptForTheNext) {
  element f(1);
  for (int i = 0; i < 3; i++) EXPECT_THROW(go(attr{.pinned = true}, f), refused);
  unsigned threads = grt::threads();
  for (int i = 0; i < 20; i++) EXPECT_THROW(go(attr{.stack_max = 1 << 20, .pinned = true}, f), refused);
  EXPECT_LE(grt::threads(), threads);
}

TEST_F(ThrowingHandler, OfAReceive_TheValueWasReceived) {
  run([] {
    chan<element> c(2);
    c.send(element(1));
    c.send(element(2));
    auto throws = [](std::optional<element> v) {
      EXPECT_TRUE(v);
      throw refused();
    };
    EXPECT_THROW(select(on_recv(c, throws)), refused);
    EXPECT_THROW(select(on_recv(c, throws), on_default()), refused);
    EXPECT_EQ(c.size(), 0u);
    attempt waiting([=] { EXPECT_THROW(select(on_recv(c, throws), on_timeout(1h)), refused); });
    EXPECT_TRUE(waiting.blocks());
    c.send(element(3));
    waiting.join();
    c.send(element(4));
    EXPECT_EQ(c.recv()->id(), 4);
  });
}
TEST_F(ThrowingHandler, OfASend_TheValueWasSent) {
  run([] {
    chan<element> c(1), direct;
    auto throws = [] { throw refused(); };
    EXPECT_THROW(select(on_send(c, element(1), throws)), refused);
    EXPECT_EQ(c.recv()->id(), 1);
    attempt waiting([=] { EXPECT_THROW(select(on_send(direct, element(2), throws), on_recv(c)), refused); });
    EXPECT_TRUE(waiting.blocks());
    EXPECT_EQ(direct.recv()->id(), 2);
    waiting.join();
    EXPECT_FALSE(c.try_send(element(3)) && c.try_send(element(4))) << "it no longer waits on c";
  });
}
TEST_F(ThrowingHandler, OfTimeoutAndDefault_NobodyWaitsAnyMore) {
  run([] {
    chan<element> c;
    auto throws = [] { throw refused(); };
    EXPECT_THROW(select(on_recv(c), on_default(throws)), refused);
    EXPECT_THROW(select(on_recv(c), on_send(c, element(1)), on_timeout(100us, throws)), refused);
    EXPECT_THROW(select(on_recv(c), on_send(c, element(1)), on_timeout(0us, throws)), refused);
    EXPECT_FALSE(c.try_send(element(2)));
    std::optional<element> v;
    EXPECT_EQ(c.try_recv(v), recv_result::empty);
  });
}
// What is thrown while a receive loop runs ends the loop, not the channel.
TEST_F(ThrowingHandler, TheBodyOfARangeLoop) {
  chan<element> c(3);
  for (int i = 0; i < 3; i++) c.send(element(i));
  try {
    for (element& v : c)
      if (v.id() == 1) throw refused();
  } catch (const refused&) {
  }
  EXPECT_EQ(c.recv()->id(), 2);
}

struct unassignable {
  explicit unassignable(int v) : value(v) {}
  unassignable(unassignable&&) noexcept = default;
  const int value;
};
struct alignas(4096) page {
  int value[1024];
};
TEST_F(Elements, OfAnySizeAndKind) {
  run([] {
    chan<unassignable> u(1);
    u.send(unassignable(4));
    EXPECT_EQ(u.recv()->value, 4);
    chan<page> p(3);
    for (int round = 0; round < 3; round++) {
      auto in = std::make_unique<page>();
      in->value[1023] = round;
      p.send(*in);
      p.send(*in);
      p.recv();
      auto out = std::make_unique<std::optional<page>>(p.recv());
      EXPECT_EQ((*out)->value[1023], round);
    }
    struct empty {};
    chan<empty> e(2);
    e.send({});
    EXPECT_TRUE(e.recv());
    chan<chan<int>> replies;
    go([=] { replies.recv()->send(7); });
    chan<int> reply;
    replies.send(reply);
    EXPECT_EQ(reply.recv(), 7);
    chan<std::function<int()>> jobs(1);
    jobs.send([x = std::make_shared<int>(8)] { return *x; });
    EXPECT_EQ((*jobs.recv())(), 8);
    chan<std::unique_ptr<element>> owned(2);
    owned.send(std::make_unique<element>(1));
    owned.send(*owned.recv()); // goes with the channel
  });
}
// What the buffer still holds goes with the last handle, also where the ring has wrapped.
TEST_F(Elements, LeftInTheBufferGoWithTheChannel) {
  for (int first = 0; first < 5; first++)
    for (int left = 0; left <= 5; left++) {
      chan<element> c(5);
      for (int i = 0; i < first; i++) {
        c.send(element(i));
        c.recv();
      }
      for (int i = 0; i < left; i++) c.send(element(i));
      EXPECT_EQ(element::live, left);
      if (left % 2) c.close();
      chan<element> other = c;
      c = chan<element>(nil);
      EXPECT_EQ(element::live, left);
      other = chan<element>(1);
      EXPECT_EQ(element::live, 0);
    }
}
} // namespace
