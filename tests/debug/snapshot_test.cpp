#include "tests/support/fixture.hpp"

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "tests/debug/dump_text.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using debug::snapshot;
using debug::state;

struct Snapshot : GrtTest {};
struct Metrics : GrtTest {};
struct Sites : GrtTest {};

template <class P> bool soon(P p) {
  for (int i = 0; i < 10000; i++) {
    if (p()) return true;
    sleep_for(1ms);
  }
  return false;
}

TEST_F(Snapshot, HasEveryGoroutineOnce_WithNameAndState) {
  chan<void> gate;
  wait_group gone;
  for (int i = 0; i < 100; i++) gone.go(attr{.name = "parked " + std::to_string(i)}, [=] { gate.recv(); });
  ASSERT_TRUE(soon([] {
    auto all = snapshot();
    return all.size() == 100 && std::all_of(all.begin(), all.end(), [](auto& i) { return i.st == state::waiting; });
  }));
  std::set<std::string> names;
  std::set<std::uint64_t> ids;
  for (auto& i : snapshot()) {
    names.insert(i.name);
    ids.insert(i.id);
    EXPECT_EQ(i.wait_reason, "chan receive");
    EXPECT_GE(i.frames.size(), 3u);
  }
  EXPECT_EQ(names.size(), 100u);
  EXPECT_EQ(ids.size(), 100u);
  EXPECT_TRUE(names.count("parked 42"));
  gate.close();
  gone.wait();
}

TEST_F(Snapshot, TheCallerRuns_AndHasNoFrames) {
  run([] {
    auto all = snapshot();
    auto me = std::find_if(all.begin(), all.end(), [](auto& i) { return i.id == this_goroutine::id(); });
    ASSERT_NE(me, all.end());
    EXPECT_EQ(me->st, state::running);
    EXPECT_TRUE(me->frames.empty());
    EXPECT_EQ(me->wait_reason, "");
    EXPECT_EQ(me->since, std::chrono::steady_clock::time_point{});
  });
}

TEST_F(Snapshot, WhoHasNotRunYetIsRunnable) {
  run([] {
    unsigned before = set_procs(1);
    while (debug::read_metrics().running > 1) yield(); // the other processors have retired
    wait_group gone;
    gone.add(1);
    auto taken = [] { return debug::read_metrics().handoffs; }; // if it takes us long, the processor goes to "fresh"
    auto before_it = taken();
    go(attr{.name = "fresh"}, [&] { gone.done(); });
    auto all = snapshot();
    bool ours = taken() == before_it;
    for (auto& i : all)
      if (i.name == "fresh" && ours) {
        EXPECT_EQ(i.st, state::runnable);
        EXPECT_TRUE(i.frames.empty());
      }
    gone.wait();
    set_procs(before);
  });
}

TEST_F(Snapshot, SinceIsWhenItBeganToWait) {
  chan<void> gate;
  wait_group gone;
  auto before = std::chrono::steady_clock::now();
  gone.go(attr{.name = "waits"}, [=] { gate.recv(); });
  debug::goroutine_info found;
  ASSERT_TRUE(soon([&] {
    for (auto& i : snapshot())
      if (i.name == "waits" && i.st == state::waiting) return found = i, true;
    return false;
  }));
  auto after = std::chrono::steady_clock::now();
  // A processor that idled has just been through its loop; the clock's unit is 44 ms at the coarsest.
  EXPECT_GE(found.since, before - 100ms);
  EXPECT_LE(found.since, after + 100ms);
  std::this_thread::sleep_for(300ms);
  for (auto& i : snapshot())
    if (i.name == "waits") {
      EXPECT_LE(i.since, after + 100ms) << "it does not move while it waits";
    }
  gate.close();
  gone.wait();
}

TEST_F(Snapshot, BeforeAnythingAndAfterItIsEmpty) {
  EXPECT_TRUE(soon([] { return snapshot().empty(); }));
}

// Whatever starts a goroutine: the place of the call, never one inside the library.
TEST_F(Sites, OfGroupsTimersAndContexts_AreTheCallers) {
  chan<void> c;
  auto waits = [c] { c.recv(); };
  const attr named{.name = "named"};
  auto [ctx, cancel] = with_cancel(background());
  auto here = [&](unsigned line) {
    std::vector<debug::goroutine_info> all;
    EXPECT_TRUE(soon([&] { return (all = snapshot()).size() == 1 && all[0].st == state::waiting; }));
    std::string want = "snapshot_test.cpp:" + std::to_string(line);
    for (auto& i : all) EXPECT_NE(i.created_at.find(want), std::string::npos) << i.created_at << ", not " << want;
    c.send();
    EXPECT_TRUE(soon([&] { return snapshot().empty(); }));
  };
  ASSERT_TRUE(soon([&] { return snapshot().empty(); }));
  wait_group w;
  error_group g;
  w.go(waits), here(__LINE__);
  w.go(named, waits), here(__LINE__);
  g.go(waits), here(__LINE__);
  g.go(named, waits), here(__LINE__);
  bool started = g.try_go(waits);
  EXPECT_TRUE(started);
  here(__LINE__ - 2);
  {
    grt::scope s;
    s.go(waits), here(__LINE__);
    s.go(named, waits), here(__LINE__);
  }
  timer t = after_func(1us, waits);
  here(__LINE__ - 1);
  t.reset(1us);
  here(__LINE__ - 3);
  timer u = after_func(named, 1us, waits);
  here(__LINE__ - 1);
  u.reset(1us);
  here(__LINE__ - 3);
  stop_func later = context_after_func(ctx, waits);
  cancel();
  here(__LINE__ - 2);
  stop_func again = context_after_func(named, ctx, waits);
  here(__LINE__ - 1);
}

void receives(chan<int> c, int) { c.recv(); }
TEST_F(Sites, OfGoWithArguments_IsTheCallersSymbol) {
  chan<int> c;
  ASSERT_TRUE(soon([] { return snapshot().empty(); }));
  go(receives, c, 1);
  ASSERT_TRUE(soon([] { return !snapshot().empty(); }));
  auto all = snapshot();
  EXPECT_NE(all[0].created_at.find("Sites_OfGoWithArguments"), std::string::npos) << all[0].created_at;
  EXPECT_NE(all[0].created_at.find("+0x"), std::string::npos) << all[0].created_at;
  std::string p = paragraph(dump_text(), "goroutine " + std::to_string(all[0].id) + " ");
  EXPECT_NE(p.find("created at 0x"), std::string::npos) << p;
  EXPECT_NE(p.find("Sites_OfGoWithArguments"), std::string::npos) << p;
  c.close();
}

TEST_F(Metrics, CountStates) {
  chan<void> gate;
  wait_group gone;
  auto before = debug::read_metrics();
  for (int i = 0; i < 50; i++) gone.go([=] { gate.recv(); });
  EXPECT_TRUE(soon([] { return debug::read_metrics().waiting == 50; }));
  auto m = debug::read_metrics();
  EXPECT_EQ(m.goroutines, 50u);
  EXPECT_EQ(m.running, 0u);
  EXPECT_EQ(m.runnable, 0u);
  EXPECT_EQ(m.spawned - before.spawned, 50u);
  EXPECT_GT(m.switches, before.switches);
  gate.close();
  gone.wait();
  run([] { EXPECT_TRUE(soon([] { return debug::read_metrics().running == 1; })); });
}

// All kinds of lives at once, looked at without a pause. What is looked for: a fault, a report of a sanitizer, a
// goroutine that was not there, a stack that was not its own.
TEST_F(Snapshot, UnderLoad) {
  static std::atomic<bool> stop;
  stop = false;
  wait_group gone;
  chan<int> c, d(4);
  mutex m;
  std::atomic<int> pings{4};
  for (int i = 0; i < 4; i++) {
    gone.go(attr{.name = "ping"}, [=, &pings] {
      while (!stop) c.send(1);
      pings--;
    });
    gone.go(attr{.name = "pong"}, [=, &pings] {
      while (pings) select(on_recv(c), on_timeout(1ms));
    });
    gone.go(attr{.name = "spawner"}, [&] {
      while (!stop) {
        wait_group w;
        for (int k = 0; k < 8; k++)
          w.go([&] {
            std::scoped_lock hold(m);
            yield();
          });
        w.go(attr{.name = "short", .stack_max = 64 << 10}, [] { this_goroutine::set_name("renamed"); });
        w.wait();
      }
    });
    gone.go(attr{.name = "sleeper"}, [] {
      while (!stop) sleep_for(50us);
    });
  }
  std::thread foreign([&] {
    while (!stop) select(on_send(d, 1), on_timeout(1ms));
  });
  gone.go(attr{.name = "drain"}, [&] {
    while (!stop) select(on_recv(d), on_timeout(1ms));
  });
  std::set<std::string> known{"", "ping", "pong", "spawner", "sleeper", "drain", "short", "renamed"};
  int fd = memfd_create("dump", MFD_CLOEXEC);
  for (int i = 0, n = scaled(600); i < n; i++) {
    for (auto& g : snapshot()) {
      EXPECT_TRUE(known.count(g.name)) << g.name;
      EXPECT_NE(g.id, 0u);
      EXPECT_EQ(g.wait_reason.empty(), g.st != state::waiting);
      EXPECT_TRUE(g.created_at.find("_test.cpp:") != std::string::npos ||
                  g.created_at.find("sync.hpp:") != std::string::npos)
          << g.created_at;
      if (g.st == state::running) {
        EXPECT_TRUE(g.frames.empty());
      }
      if (g.st == state::waiting) {
        EXPECT_GE(g.frames.size(), 3u) << g.name << " " << g.wait_reason;
      }
    }
    if (ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET)) FAIL();
    debug::dump(fd);
    EXPECT_GT(lseek(fd, 0, SEEK_CUR), 0);
    yield();
  }
  close(fd);
  stop = true;
  foreign.join();
  gone.wait();
}
} // namespace
