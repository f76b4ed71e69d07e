#include "tests/support/fixture.hpp"

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include <unistd.h>

#include "sched/core/fair.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/handoff.hpp"
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
    EXPECT_EQ(me->thread, static_cast<int>(gettid()));
    if (!me->detached) { // the machine may have taken so long that another thread has its processor
      EXPECT_TRUE(me->frames.empty());
      EXPECT_EQ(me->since, std::chrono::steady_clock::time_point{});
    }
    EXPECT_EQ(me->wait_reason, "");
  });
}

TEST_F(Snapshot, NotYetRun_IsRunnableWithoutFrames) {
  run([] {
    unsigned before = set_procs(1);
    // The only processor is ours, unless we take so long that it is given away, or another has not retired yet: then
    // once more.
    bool seen = false;
    while (!seen) {
      wait_group gone;
      gone.add(1);
      go(attr{.name = "fresh"}, [&] { gone.done(); });
      auto all = snapshot();
      auto fresh = std::find_if(all.begin(), all.end(), [](auto& i) { return i.name == "fresh"; });
      if (fresh != all.end()) EXPECT_NE(fresh->st, state::waiting); // it never does
      if (fresh != all.end() && fresh->st == state::runnable) {
        EXPECT_TRUE(fresh->frames.empty());
        EXPECT_EQ(fresh->thread, 0);
        seen = true;
      }
      gone.wait();
    }
    set_procs(before);
  });
}

// ---- a goroutine whose processor was taken: it is the one that somebody asks for a dump for
std::atomic<bool> hog_stops;
[[gnu::noinline]] void compute_for_ever() {
  while (!hog_stops) asm volatile("");
}

// A goroutine that computes, and one that wants its processor; f(hog) once the hog has lost it.
template <class F> void with_hog(void (*body)(), std::size_t frames, F f) {
  hog_stops = false;
  wait_group gone;
  std::atomic<int> tid{0};
  std::atomic<bool> over{false};
  unsigned before = set_procs(1); // one neighbour is enough to want it
  gone.go(attr{.name = "hog"}, [&] {
    yield();
    tid = static_cast<int>(gettid());
    body();
  });
  gone.go([&] {
    while (!over) yield();
  });
  debug::goroutine_info hog;
  while (!hog.detached || hog.frames.size() < frames)
    for (auto& i : snapshot())
      if (i.name == "hog") hog = i;
  f(hog, tid.load());
  hog_stops = over = true;
  gone.wait();
  set_procs(before);
}
std::string symbols(const debug::goroutine_info& g) {
  return paragraph(dump_text(), "goroutine " + std::to_string(g.id));
}

TEST_F(Snapshot, ComputingWithoutProcessor_IsRunningWithItsStack) {
  auto before = std::chrono::steady_clock::now();
#if defined(GRT_TEST_EMULATED)
  GTEST_SKIP() << "qemu-user's threads are not those that the program sees";
#endif
#if !GRT_DETAIL_TSAN // which delivers a signal to a thread that computes only when it makes a call that it knows
  with_hog(compute_for_ever, 3, [&](const debug::goroutine_info& hog, int tid) {
    EXPECT_EQ(hog.st, state::running);
    EXPECT_EQ(hog.thread, tid);
    EXPECT_EQ(hog.wait_reason, "");
    EXPECT_EQ(hog.object, nullptr);
    EXPECT_GE(hog.since, before);
    EXPECT_LE(hog.since, std::chrono::steady_clock::now());
    EXPECT_GE(debug::read_metrics().running, 1u);
    EXPECT_GE(debug::read_metrics().adrift, 1u);
    std::string p = symbols(hog);
    EXPECT_NE(p.find("[running] on thread " + std::to_string(tid) + " without a processor for "), std::string::npos)
        << p;
    while (p.find("compute_for_ever") == std::string::npos) p = symbols(hog); // its thread may not get a core in time
  });
#endif
}

int sleep_pipe[2];
[[gnu::noinline]] void sleep_in_the_kernel() {
  char c;
  while (!hog_stops && read(sleep_pipe[0], &c, 1) != 1) {
  }
}
TEST_F(Snapshot, BlockedWithoutProcessor_IsRunningWithItsStack) {
#if defined(GRT_TEST_EMULATED)
  GTEST_SKIP() << "the kernel tells registers of qemu-user, not of the program";
#endif
  ASSERT_EQ(pipe(sleep_pipe), 0);
  // The kernel tells two registers. Code that keeps a frame pointer needs a third one.
  with_hog(sleep_in_the_kernel, 1, [&](const debug::goroutine_info& hog, int tid) {
    EXPECT_EQ(hog.st, state::running);
    EXPECT_EQ(hog.thread, tid);
    ASSERT_EQ(write(sleep_pipe[1], "x", 1), 1);
  });
  close(sleep_pipe[0]);
  close(sleep_pipe[1]);
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
  w.wait(); // a snapshot without them does not say that they are done with it
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
  EXPECT_GE(m.switches - before.switches, 50u) << "each of them has run";
  gate.close();
  gone.wait();
  run([] { EXPECT_TRUE(soon([] { return debug::read_metrics().running == 1; })); });
}

// ---- counters never fall, whoever holds the processors
class watched_counters {
public:
  void look() {
    auto now = debug::read_metrics();
    using m = debug::metrics;
    for (auto [field, name] : {std::pair{&m::spawned, "spawned"},
                               {&m::switches, "switches"},
                               {&m::steals, "steals"},
                               {&m::stolen, "stolen"},
                               {&m::wakes, "wakes"},
                               {&m::handoffs, "handoffs"},
                               {&m::windows, "windows"}})
      EXPECT_GE(now.*field, last_.*field) << name;
    EXPECT_LT(now.switches, 1ull << 48);
    EXPECT_LT(now.wakes, 1ull << 48);
    last_ = now;
  }

private:
  debug::metrics last_ = debug::read_metrics();
};

TEST_F(Metrics, CountersNeverFall_AcrossHandOffPinningSetProcsAndEndingThreads) {
  watched_counters all;
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    watched_counters mine;
    while (!stop) mine.look();
  });
  unsigned before = set_procs(procs());
  auto handoffs = debug::read_metrics().handoffs;
  for (int round = 0; round < scaled(100); round++) {
    wait_group w;
    for (int i = 0; i < 8; i++)
      w.go([i] {
        if (i % 4 == 1) usleep(12000);
        else if (i % 4 == 3) blocking([] { usleep(1000); });
        else
          for (int k = 0; k < 100; k++) yield();
      });
    w.go(attr{.pinned = true}, [] { // its thread ends with it
      for (int k = 0; k < 10; k++) yield();
    });
    all.look();
    set_procs(1 + static_cast<unsigned>(round) % 4);
    w.wait();
    all.look();
  }
  while (debug::read_metrics().handoffs == handoffs) { // not one on a machine that was fast: until there is
    wait_group w;
    for (int i = 0; i < 8; i++) w.go([] { usleep(15000); });
    w.wait();
  }
  set_procs(before);
  stop = true;
  reader.join();
  all.look();
}

TEST_F(Metrics, SwitchesGoOnBeyond32Bits) {
  run([] {
    auto before = debug::read_metrics().switches;
    M* m = enter_here(me());
    m->p->tick += std::uint64_t{1} << 32;
    leave(m);
    auto after = debug::read_metrics().switches;
    EXPECT_GE(after - before, std::uint64_t{1} << 32);
    EXPECT_LT(after - before, (std::uint64_t{1} << 32) + 1000000);
  });
}

TEST_F(Metrics, ReschedulesAreNoSwitches) {
  run([] {
    unsigned before_procs = set_procs(1);
    while (debug::read_metrics().running > 1) yield();
    std::uint64_t grown = 1000;
    while (grown >= 1000) { // unless others had the processor meanwhile
      M* m = enter_here(me());
      auto before = debug::read_metrics().switches;
      for (int i = 0; i < 1000; i++) {
        m->p->tick += 1; // a choice, and then a request that moves tick to the next look around
        grt::turn(m->p);
      }
      grown = debug::read_metrics().switches - before - 1000;
      leave(m);
    }
    EXPECT_LT(grown, 1000u);
    set_procs(before_procs);
  });
}

TEST_F(Metrics, GaugesAgreeWithASnapshot) {
  hog_stops = false;
  chan<void> gate;
  wait_group gone;
  for (int i = 0; i < 20; i++) gone.go([=] { gate.recv(); });
  for (int i = 0; i < 3; i++) gone.go(attr{.name = "hog"}, compute_for_ever);
  gone.go(attr{.name = "pinned hog", .pinned = true}, compute_for_ever);
  // All that want a processor get one in the end, so that nothing changes any more.
  bool agree = soon([] {
    auto m = debug::read_metrics();
    auto all = snapshot();
    auto count = [&](state s) {
      return static_cast<std::uint64_t>(std::count_if(all.begin(), all.end(), [s](auto& g) { return g.st == s; }));
    };
    return m.running == 4 && count(state::running) == 4 && m.runnable == 0 && count(state::runnable) == 0 &&
           m.waiting == 20 && count(state::waiting) == 20 && m.goroutines == all.size();
  });
  EXPECT_TRUE(agree) << dump_text();
  hog_stops = true;
  gate.close();
  gone.wait();
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
  for (int i = 0, n = scaled(400); i < n; i++) {
    for (auto& g : snapshot()) {
      EXPECT_TRUE(known.count(g.name)) << g.name;
      EXPECT_NE(g.id, 0u);
      EXPECT_EQ(g.wait_reason.empty(), g.st != state::waiting);
      EXPECT_TRUE(g.created_at.find("_test.cpp:") != std::string::npos ||
                  g.created_at.find("sync.hpp:") != std::string::npos)
          << g.created_at;
      if (g.st == state::running && !g.detached) {
        EXPECT_TRUE(g.frames.empty());
      }
      if (g.st == state::waiting) {
        EXPECT_GE(g.frames.size(), 3u) << g.name << " " << g.wait_reason;
      }
    }
    if (i % 8 == 0) { // it looks up a name for each address: most of the time would go there
      if (ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET)) FAIL();
      debug::dump(fd);
      EXPECT_GT(lseek(fd, 0, SEEK_CUR), 0);
    }
    yield();
  }
  close(fd);
  stop = true;
  foreign.join();
  gone.wait();
}
} // namespace
