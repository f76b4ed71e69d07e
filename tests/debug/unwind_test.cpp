// Known call chains, parked in every way there is, read from outside. The functions have C names, so that the dump
// shows them as they are.
#include "tests/support/fixture.hpp"

#include <algorithm>
#include <alloca.h>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "tests/debug/dump_text.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using waits = std::function<void()>;

const void* const some_channel = &some_channel; // its address is nobody's business
volatile int sink;                              // something to do after the call, so that it is none in tail position
} // namespace

extern "C" {
GRT_DETAIL_NOINLINE void chain_three(const waits& f) {
  f();
  sink = 3;
}
// CFA by frame pointer: the stack pointer's offset is known to nobody.
GRT_DETAIL_NOINLINE void chain_two(const waits& f, int n) {
  auto* some = static_cast<char*>(alloca(static_cast<std::size_t>(n)));
  std::memset(some, 1, static_cast<std::size_t>(n));
  chain_three(f);
  sink = some[n - 1];
}
GRT_DETAIL_NOINLINE void chain_one(const waits& f) {
  char large[32 << 10]; // further away than any copy of a few kilobytes
  std::memset(large, 1, sizeof large);
  chain_two(f, 200 + large[77]);
  sink = large[99];
}
}

namespace {
debug::goroutine_info named(const std::string& name) {
  for (auto& i : debug::snapshot())
    if (i.name == name) return i;
  return {};
}
debug::goroutine_info parked(const std::string& name) {
  debug::goroutine_info i;
  do sleep_for(1ms);
  while ((i = named(name)).st != debug::state::waiting);
  return i;
}

struct Unwind : GrtTest {
  // f parks under the chain until `release` is called.
  void expect_chain(const char* reason, const void* object, const waits& f, const waits& release) {
    wait_group gone;
    gone.add(1);
    go(attr{.name = "chained"}, [&] {
      chain_one(f);
      gone.done();
    });
    debug::goroutine_info i = parked("chained");
    std::string text = dump_text(), p = paragraph(text, "goroutine " + std::to_string(i.id) + " ");
    release();
    gone.wait();
    EXPECT_EQ(i.wait_reason, reason);
    if (object == some_channel) EXPECT_NE(i.object, nullptr) << reason;
    else EXPECT_EQ(i.object, object) << reason;
    EXPECT_NE(i.created_at.find("unwind_test.cpp:"), std::string::npos) << i.created_at;
    std::size_t at = 0;
    for (const char* name :
         {"  chain_three+0x", "  chain_two+0x", "  chain_one+0x", "  grt_gmain+0x", "  grt_start+0x"}) {
      at = p.find(name, at);
      EXPECT_NE(at, std::string::npos) << name << " is missing in\n" << p;
    }
    EXPECT_NE(p.find("created at "), std::string::npos) << p;
    for (void* frame : i.frames) { // the same stack by both ways
      char hex[32];
      std::snprintf(hex, sizeof hex, "    0x%zx ", reinterpret_cast<std::size_t>(frame));
      EXPECT_NE(p.find(hex), std::string::npos) << hex << p;
    }
  }
};

TEST_F(Unwind, FromEveryWait) {
  run([&] {
    chan<int> c;
    expect_chain(
        "chan receive", some_channel, [=] { c.recv(); }, [=] { c.send(1); });
    expect_chain(
        "chan send", some_channel, [=] { c.send(1); }, [=] { c.recv(); });
    chan<int> d;
    expect_chain(
        "select", some_channel, [=] { select(on_recv(c), on_recv(d)); }, [=] { d.send(1); });
    expect_chain(
        "select", some_channel, [=] { select(on_recv(c), on_timeout(1min)); }, [=] { c.send(1); });
    mutex m;
    m.lock();
    expect_chain(
        "mutex", &m, [&] { m.lock(); }, [&] { m.unlock(); });
    m.unlock();
    wait_group w;
    w.add(1);
    expect_chain(
        "wait group", &w, [&] { w.wait(); }, [&] { w.done(); });
    shared_mutex r;
    r.lock();
    expect_chain(
        "shared mutex", &r, [&] { r.lock_shared(); }, [&] { r.unlock(); });
    r.unlock_shared();
    counting_semaphore<> s(0);
    expect_chain(
        "semaphore", &s, [&] { s.acquire(); }, [&] { s.release(); });
    latch l(1);
    expect_chain(
        "latch", &l, [&] { l.wait(); }, [&] { l.count_down(); });
    barrier<> b(2);
    expect_chain(
        "barrier", &b, [&] { b.arrive_and_wait(); }, [&] { b.arrive_and_wait(); });
    condition_variable v;
    bool go_on = false;
    expect_chain(
        "condition variable", &v,
        [&] {
          m.lock();
          v.wait(m, [&] { return go_on; });
          m.unlock();
        },
        [&] {
          m.lock();
          go_on = true;
          m.unlock();
          v.notify_all();
        });
    auto [patience, ends] = with_cancel(background());
    expect_chain(
        "sleep", nullptr,
        [&, &patience = patience] {
          try {
            sleep_for(1h, patience);
          } catch (const std::system_error&) {
          }
        },
        [&, &ends = ends] { ends(); });
  });
}

TEST_F(Unwind, OfAPinnedGoroutine_AndOfALargeStack) {
  run([&] {
    chan<int> c;
    for (attr a : {attr{.name = "own", .pinned = true}, attr{.name = "own", .stack_max = 1 << 20}}) {
      wait_group gone;
      gone.add(1);
      go(a, [&] {
        chain_one([&] { c.recv(); });
        gone.done();
      });
      debug::goroutine_info i = parked("own");
      std::string p = paragraph(dump_text(), "goroutine " + std::to_string(i.id) + " ");
      c.send(1);
      gone.wait();
      EXPECT_NE(p.find("chain_one+0x"), std::string::npos) << p;
    }
  });
}

TEST_F(Unwind, OfAThreadThatWaits) {
  chan<int> c;
  std::thread t([=] { chain_one([=] { c.recv(); }); });
  std::string p;
  for (int i = 0; i < 10000 && p.find("chain_one") == std::string::npos; i++) {
    sleep_for(1ms);
    p = paragraph(dump_text(), "thread ");
  }
  c.send(1);
  t.join();
  EXPECT_NE(p.find("[chan receive] on 0x"), std::string::npos) << p;
  EXPECT_LT(p.find("chain_three+0x"), p.find("chain_one+0x")) << p;
}

// ---- What a select waits for: one of its channels, by the address that whoever else waits for it shows, and a count.

struct SelectObject : GrtTest {
  static constexpr unsigned n = 12; // beyond 8 cases the channels are listed on the heap
  std::vector<chan<int>> channels = std::vector<chan<int>>(n);
  std::vector<const void*> states;
  wait_group gone;

  void SetUp() override {
    GrtTest::SetUp();
    for (unsigned i = 0; i < n; i++) {
      std::string name = "receiver " + std::to_string(i);
      gone.go(attr{.name = name}, [this, i] { channels[i].recv(); });
      states.push_back(parked(name).object);
    }
  }
  void TearDown() override {
    for (auto& c : channels) c.close();
    gone.wait();
    GrtTest::TearDown();
  }
  // Of the first `of` channels.
  void expect(unsigned of, const waits& f) {
    std::string name = "selects " + std::to_string(of);
    gone.go(attr{.name = name}, f);
    debug::goroutine_info i = parked(name);
    EXPECT_EQ(i.wait_reason, "select");
    EXPECT_NE(std::find(states.begin(), states.begin() + of, i.object), states.begin() + of) << i.object;
    EXPECT_EQ(i.more_objects, of - 1);
    char line[80];
    std::snprintf(line, sizeof line, of > 1 ? " [select] on %p and %u more for " : " [select] on %p for ", i.object,
                  of - 1);
    std::string p = paragraph(dump_text(), "goroutine " + std::to_string(i.id) + " ");
    EXPECT_NE(p.find(line), std::string::npos) << line << p;
  }
};

TEST_F(SelectObject, IsOneOfItsChannels_AndACount) {
  auto& c = channels;
  expect(1, [&] { select(on_recv(c[0])); });
  expect(2, [&] { select(on_recv(c[0]), on_recv(c[1])); });
  expect(3, [&] { select(on_recv(c[0]), on_recv(c[1]), on_recv(c[2]), on_timeout(1min)); });
}
TEST_F(SelectObject, CountsAChannelOnce_AndNoNilOne) {
  auto& c = channels;
  expect(2, [&] { select(on_recv(c[0]), on_recv(c[1]), on_recv(c[0]), on_recv(chan<int>(nil))); });
}
TEST_F(SelectObject, OfManyCases) {
  expect(n, [&] {
    select_set set;
    for (auto& c : channels) set.add(on_recv(c));
    set.wait();
  });
}
TEST_F(SelectObject, IsNoneOfALimitAlone) {
  auto [until, cancel] = with_cancel(background());
  gone.go(attr{.name = "waits"}, [until = until] { EXPECT_THROW(chan<int>(nil).recv(until), std::system_error); });
  debug::goroutine_info i = parked("waits");
  cancel();
  EXPECT_EQ(i.wait_reason, "select");
  EXPECT_EQ(i.object, nullptr);
  EXPECT_EQ(i.more_objects, 0u);
}
TEST_F(SelectObject, OfAThreadThatWaits) {
  chan<int> c, d;
  std::thread t([=] { select(on_recv(c), on_recv(d)); });
  std::string p;
  while (p.find(" and 1 more for ") == std::string::npos) {
    sleep_for(1ms);
    p = paragraph(dump_text(), "thread ");
  }
  c.send(1);
  t.join();
  EXPECT_NE(p.find("[select] on 0x"), std::string::npos) << p;
}

TEST_F(Unwind, GoesPastAnExceptionInFlight) {
  run([&] {
    mutex m;
    m.lock();
    expect_chain(
        "mutex", &m,
        [&] {
          try {
            throw 1;
          } catch (int) {
            m.lock();
          }
        },
        [&] { m.unlock(); });
    m.unlock();
  });
}
} // namespace
