// The bounds of sched/core/fair.cpp: how many turns of others, and how many slices, a runnable goroutine waits. Counts only.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "sched/core/fair.hpp"
#include "sched/core/sched.hpp"
#include "tests/support/compute.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/turn.hpp"

using namespace std::chrono_literals;

namespace {
// Where a goroutine began to wait, or runs: its P, and what that has counted.
struct moment {
  const grt::P* p = nullptr;
  std::uint64_t turns = 0, slices = 0;
  static moment now() {
    grt::M* m = grt::me();
    const volatile grt::P* p = m->p;
    if (const_cast<const grt::P*>(p)->m.load() != m) return {}; // it has lost its processor
    return {const_cast<const grt::P*>(p), p->tick - p->skipped, const_cast<const grt::P*>(p)->slices.load()};
  }
};

struct longest {
  std::atomic<std::uint64_t> turns{0}, slices{0}, counted{0};
  static void raise(std::atomic<std::uint64_t>& to, std::uint64_t n) {
    for (std::uint64_t was = to; was < n && !to.compare_exchange_weak(was, n);) {
    }
  }
  // Nothing is known of one that ran on another P than it waited on.
  bool add(moment from, moment to = moment::now()) {
    if (!from.p || from.p != to.p) return false;
    counted++;
    raise(turns, to.turns - from.turns);
    raise(slices, to.slices - from.slices);
    return true;
  }
  void print() const {
    std::printf("%llu waited at home, for %llu turns and %llu slices at most\n",
                static_cast<unsigned long long>(counted.load()), static_cast<unsigned long long>(turns.load()),
                static_cast<unsigned long long>(slices.load()));
  }
};

bool migrating() { return std::getenv("GRT_DEBUG"); } // all work stands in the global queue then

class Slices : public GrtTest, public testing::WithParamInterface<unsigned> {
protected:
  void SetUp() override {
    GrtTest::SetUp();
    if (migrating()) GTEST_SKIP() << "no queue of a processor is used";
    procs_ = grt::set_procs(GetParam());
  }
  void TearDown() override {
    if (procs_) grt::set_procs(procs_);
    GrtTest::TearDown();
  }
  // What may stand in the queues of never-run goroutines: a crowd on each P, what is spawned before the next check,
  // what a few slices' ends let a producer start meanwhile, and what a thief moves.
  static std::uint64_t crowds() {
    return GetParam() * (grt::crowd + grt::ids_most + 8 * grt::ids_in_crowd + (GetParam() > 1 ? 128 : 0));
  }
  // Of several processors one that has more than its share moves the oldest to the global queue, and what stands there
  // at place k waits for up to k + 1 slices' turns. There are at most eight at a time in these tests.
  static std::uint64_t turns(std::uint64_t of_one_processor) {
    return GetParam() == 1 ? of_one_processor : std::max(of_one_processor, 8 * grt::slice_turns + 64);
  }

private:
  unsigned procs_ = 0;
};

// A request loop starts a goroutine for each request and hands over through `next` without end. Those wait until they
// are a crowd, and then run.
TEST_P(Slices, NeverRun_BesidePingPong) {
  int requests = scaled(400000);
  std::atomic<std::uint64_t> ran{0};
  std::uint64_t started = 0, most = 0;
  longest wait;
  grt::run([&] {
    grt::chan<int> request, answer;
    grt::wait_group w;
    w.go([=] {
      while (auto x = request.recv()) answer.send(*x);
    });
    for (int i = 0; i < requests; i++) {
      w.go([&, from = moment::now()] {
        wait.add(from);
        ran++;
      });
      most = std::max(most, ++started - ran);
      request.send(1);
      answer.recv();
    }
    request.close();
    w.wait();
  });
  wait.print();
  std::printf("%llu waited at most\n", static_cast<unsigned long long>(most));
  EXPECT_EQ(ran, started);
  EXPECT_LE(most, crowds());
  if (GetParam() == 1) {
    EXPECT_GT(wait.counted, started / 2);        // the rest: while the processor was lost
    EXPECT_LE(wait.turns, 2 * grt::slice_turns); // a slice at the most until they are a crowd, and the crowd's turns
  }
}

// Only the newest would run: each goroutine starts the next one before it ends. The oldest runs at a slice's end.
TEST_P(Slices, NeverRun_BesideThoseThatStartOneMore) {
  longest wait;
  std::atomic<bool> stop{false};
  auto round = [&] {
    stop = false;
    grt::wait_group w;
    struct again {
      std::atomic<bool>& stop;
      grt::wait_group& w;
      void operator()() const {
        if (!stop) w.go(again{stop, w});
      }
    };
    w.go([&] { // these four are in `fresh`, and then the newest of all
      moment from = moment::now();
      grt::wait_group waiting;
      for (int i = 0; i < 4; i++) waiting.go([&, from] { wait.add(from); });
      w.go(again{stop, w});
      waiting.wait();
      stop = true;
    });
    w.wait();
  };
  for (int i = 0; i < 20; i++) grt::run(round);
  wait.print();
  if (GetParam() == 1) {
    EXPECT_GT(wait.counted, 40u); // the rest: while the processor was lost
  }
  EXPECT_LE(wait.turns, turns(4 * grt::slice_turns + 64)); // position 3
}

TEST_P(Slices, Yielders_BesidePingPongAndSpawners) {
  longest wait;
  grt::run([&] {
    std::atomic<bool> stop{false};
    grt::wait_group w;
    grt::chan<int> ping, pong;
    w.go([=, &stop] {
      while (!stop) {
        ping.send(1);
        pong.recv();
      }
      ping.close();
    });
    w.go([=] {
      while (ping.recv()) pong.send(1);
    });
    w.go([&] {
      while (!stop) {
        grt::wait_group children;
        for (int i = 0; i < 100; i++) children.go([&] { children.go([] {}); });
        children.wait();
      }
    });
    for (int k = 0; k < 3; k++)
      w.go([&] {
        while (!stop) grt::yield();
      });
    w.go([&] {
      for (int i = 0; i < scaled(2000); i++) {
        moment from = moment::now();
        grt::yield();
        wait.add(from);
      }
      stop = true;
    });
    w.wait();
  });
  wait.print();
  EXPECT_GT(wait.counted, 0u);
  if (GetParam() == 1) {
    EXPECT_GT(wait.turns, 1u);
  }
  EXPECT_LE(wait.turns, turns(256u * 7u)); // the chain's, the spawner and three yielders stand before it
}

// A woken one beside a spawner that never blocks: it waits for crowds, which end.
TEST_P(Slices, Woken_BesideASpawnerThatNeverBlocks) {
  longest wait;
  grt::run([&] {
    std::atomic<bool> stop{false};
    grt::wait_group w;
    grt::chan<moment> c(1);
    w.go([&] {
      while (!stop) w.go([] {});
    });
    w.go([&, c] {
      for (int i = 0; i < scaled(100); i++) {
        c.send(moment::now());
        grt::yield();
      }
      c.close();
    });
    w.go([&, c] {
      while (auto from = c.recv()) wait.add(*from);
      stop = true;
    });
    w.wait();
  });
  wait.print();
  EXPECT_GT(wait.counted, 0u);
  EXPECT_LE(wait.turns, turns(3 * (256 + grt::crowd + grt::ids_most + 64))); // two may stand before it
}

// Starts f where others of no processor stand, and tells how many of those that are to start stand there before it. The
// moment is taken with the processor held.
moment start_in_global_queue(std::function<void()>* f, std::uint64_t& ahead) {
  void* at = grt::detail::spawn_begin_here(
      [](void* closure) { (*static_cast<std::function<void()>*>(grt::detail::spawn_load(closure)))(); }, nullptr, 0,
      nullptr);
  grt::detail::spawn_store(at, f);
  auto* g = reinterpret_cast<grt::G*>(static_cast<char*>(at) - grt::closure_offset);
  grt::san::release(g); // as spawn_commit does
  grt::M* m = grt::enter_here(grt::me());
  grt::protocol::hardware::store(g->kind, grt::g_kind::goroutine, std::memory_order_release);
  grt::count_one(m->p->spawned);
  {
    grt::spin_guard hold(grt::injected.lock);
    ahead = grt::injected.to_start.pushed - grt::injected.to_start.popped;
  }
  grt::inject_inside(g);
  moment from = moment::now();
  grt::leave(m);
  return from;
}

TEST_P(Slices, GlobalQueue_BesideQueuesThatAreNeverEmpty) {
  longest wait;
  std::atomic<int> late{0};
  // Several processors take from the two lists by turns, so that one of them may always find a woken goroutine: until
  // the end of a slice.
  const std::uint64_t each = GetParam() == 1 ? 256 : grt::slice_turns + 64;
  grt::run([&] {
    std::atomic<bool> stop{false};
    grt::wait_group w;
    for (int k = 0; k < 20; k++)
      w.go([&] {
        while (!stop) {
          w.go([] {});
          grt::yield();
        }
      });
    w.go([&] {
      for (int i = 0; i < scaled(1000); i++) {
        moment from;
        std::uint64_t ahead = 0;   // a few: a processor that has more than its share moves them there
        std::atomic<int> known{0}; // from is; it has run
        std::function<void()> f = [&] {
          moment to = moment::now();
          while (known != 1) grt::yield(); // on another processor it may be earlier
          if (wait.add(from, to) && to.turns - from.turns > each * (ahead + 1)) late++;
          known = 2;
        };
        from = start_in_global_queue(&f, ahead);
        known = 1;
        while (known != 2) grt::yield();
      }
      stop = true;
    });
    w.wait();
  });
  wait.print();
  EXPECT_GT(wait.counted, 0u);
  EXPECT_EQ(late, 0);
}

// Turns of 3 ms: a slice has a few of them. The newest is always another one, yielders stand in `ready`, and still the
// oldest runs within the slices that the runnable ones would need in a row. Nobody else starts a third slice before it.
TEST_P(Slices, TurnsThatCompute) {
#ifdef GRT_TEST_SLOW
  GTEST_SKIP() << "a turn would be a slice and more";
#endif
  constexpr unsigned yielders = 4, waiting = 20;
  const std::uint64_t most = std::max<std::uint64_t>(10, (yielders + waiting + 1 + 1) / GetParam() + 1);
  longest wait;
  std::mutex lock;                                                // never across a switch
  std::map<std::pair<const grt::P*, std::uint64_t>, int> starter; // P and slice, and who ran first in it
  std::atomic<int> third{0};
  auto runs = [&](int who, moment from) {
    moment to = moment::now();
    if (!to.p) return;
    std::lock_guard hold(lock);
    starter.try_emplace({to.p, to.slices}, who);
    if (from.p != to.p) return;
    std::map<int, int> started;
    for (auto at = starter.upper_bound({from.p, from.slices}); at != starter.end() && at->first.first == from.p; ++at)
      if (at->second != who && at->first.second < to.slices && ++started[at->second] > 2) third++;
  };
  grt::run([&] {
    std::atomic<bool> stop{false};
    grt::wait_group w, begun;
    struct again { // the newest, for ever
      std::atomic<bool>& stop;
      grt::wait_group& w;
      std::function<void()> runs;
      void operator()() const {
        runs();
        if (!stop) w.go(again{stop, w, runs});
        compute(3ms);
      }
    };
    std::atomic<int> newest{1000};
    for (int k = 0; k < static_cast<int>(yielders); k++)
      w.go([&, k] {
        runs(k, {});
        while (!stop) {
          compute(3ms);
          moment from = moment::now();
          grt::yield();
          wait.add(from);
          runs(k, from);
        }
      });
    for (int k = 0; k < static_cast<int>(waiting); k++)
      begun.go([&, k, from = moment::now()] {
        wait.add(from);
        runs(100 + k, from);
        compute(3ms);
      });
    w.go(again{stop, w, [&] { runs(newest++, {}); }});
    begun.wait();
    stop = true;
    w.wait();
  });
  wait.print();
  EXPECT_GT(wait.counted, 0u);
  EXPECT_LE(wait.slices, most);
  EXPECT_EQ(third, 0);
}

TEST_P(Slices, AProducerCannotOutrunMemory) {
  int n = scaled(1000000);
  std::atomic<std::uint64_t> ran{0};
  std::uint64_t most = 0;
  grt::run([&] {
    grt::wait_group w;
    for (int i = 0; i < n; i++) {
      w.go([&] { ran++; });
      most = std::max<std::uint64_t>(most, static_cast<std::uint64_t>(i) + 1 - ran);
    }
    w.wait();
  });
  std::printf("%llu waited at most\n", static_cast<unsigned long long>(most));
  EXPECT_EQ(ran, static_cast<std::uint64_t>(n));
  EXPECT_LE(most, crowds());
}

TEST_P(Slices, ManyProducersCannotOutrunMemory) {
  int n = scaled(100000);
  std::atomic<std::uint64_t> ran{0}, started{0};
  std::atomic<std::uint64_t> most{0};
  grt::run([&] {
    grt::wait_group w;
    for (int k = 0; k < 10; k++)
      w.go([&] {
        for (int i = 0; i < n; i++) {
          started++;
          w.go([&] { ran++; });
          std::uint64_t begun = started, done = ran; // in this order: what has run meanwhile did not wait
          if (begun > done) longest::raise(most, begun - done);
        }
      });
    w.wait();
  });
  std::printf("%llu waited at most\n", static_cast<unsigned long long>(most.load()));
  EXPECT_EQ(ran, started);
  EXPECT_LE(most, 4 * crowds()); // a crowd that ends before all have run begins anew, after one of `ready`
}

INSTANTIATE_TEST_SUITE_P(Procs, Slices, testing::Values(1u, 2u, 8u));

// A poke waits for the owner's next bracket, which does not come while it computes: whoever is idle takes what is
// there.
class Poked : public GrtTest {};
TEST_F(Poked, WorkBesideOneThatComputesRunsElsewhere) {
  if (grt::procs() < 2) GTEST_SKIP() << "one processor";
  if (migrating()) GTEST_SKIP() << "no queue of a processor is used";
  int poked = 0;
  grt::run([&] {
    for (int round = 0; round < scaled(20); round++) {
      std::atomic<int> children{0};
      for (int i = 0; i < 2; i++) grt::go([&] { children++; });
      grt::M* m = grt::me();
      grt::lost_state l = grt::lost_state::free;
      {
        grt::held_guard hold(grt::steal_pair);
        poked += m->lost.compare_exchange_strong(l, grt::lost_state::poke);
      }
      while (children < 2) asm volatile("");
    }
  });
  EXPECT_GT(poked, 0);
}

class GoYields : public GrtTest {
protected:
  void SetUp() override {
    GrtTest::SetUp();
    if (migrating()) GTEST_SKIP() << "no queue of a processor is used";
    procs_ = grt::set_procs(1);
  }
  void TearDown() override {
    if (procs_) grt::set_procs(procs_);
    GrtTest::TearDown();
  }

private:
  unsigned procs_ = 0;
};

// Turns while f runs. The processor may be lost meanwhile: then it is tried again, after `before`.
template <class B, class F> std::uint64_t turns_of(B before, F f) {
  for (;;) {
    before();
    auto metrics = grt::debug::read_metrics();
    moment from = moment::now();
    f();
    moment to = moment::now();
    if (from.p && from.p == to.p && grt::debug::read_metrics().handoffs == metrics.handoffs)
      return to.turns - from.turns;
  }
}

TEST_F(GoYields, NotBelowACrowd) {
#ifdef GRT_TEST_EMULATED
  GTEST_SKIP() << "to start a crowd takes longer than a slice";
#endif
  grt::run([] {
    grt::wait_group w;
    auto start = [&] {
      for (unsigned i = 0; i < grt::crowd; i++) w.go([] {});
    };
    EXPECT_EQ(turns_of([&] { w.wait(); }, start), 0u);
    w.wait();
  });
}

TEST_F(GoYields, OnceIn1024_AboveIt) {
  grt::run([] {
    grt::wait_group w;
    std::atomic<unsigned> ran{0};
    unsigned started = 0;
    // A slice that begins just then may choose the one that gave way, once: it is asked again 16 spawns later.
    while (started < grt::crowd + grt::ids_most + 4 * grt::ids_in_crowd + 1 && !ran) {
      w.go([&] { ran++; });
      started++;
    }
    EXPECT_GT(ran, 0u);
    w.wait();
  });
}

// A timer's goroutine starts later; setting the timer is no place to give way, whoever waits.
TEST_F(GoYields, NotWhereATimerIsSet) {
  grt::run([] {
    std::vector<grt::timer> timers;
    timers.reserve(3 * grt::ids_most);
    grt::wait_group w;
    for (unsigned i = 0; i <= grt::crowd; i++) w.go([] {});
    auto set = [&] {
      for (unsigned i = 0; i < 3 * grt::ids_most; i++) timers.push_back(grt::after_func(1h, [] {}));
    };
    EXPECT_EQ(turns_of([&] { timers.clear(); }, set), 0u);
    for (auto& t : timers) t.stop();
    w.wait();
  });
}

// A plain thread has no turn to give.
TEST_F(GoYields, NotOnAThread) {
  grt::wait_group w;
  for (unsigned i = 0; i < 2 * grt::crowd; i++) w.go([] {});
  w.wait();
}

// Pinned, and in a call that has given its processor away.
TEST_F(GoYields, PinnedAndBlocking) {
  unsigned n = 3 * grt::crowd;
  std::atomic<unsigned> ran{0};
  grt::run([&] {
    grt::wait_group w;
    grt::this_goroutine::pin();
    for (unsigned i = 0; i < n; i++) w.go([&] { ran++; });
    grt::this_goroutine::unpin();
    grt::blocking([&] {
      for (unsigned i = 0; i < n; i++) w.go([&] { ran++; });
    });
    w.wait();
  });
  EXPECT_EQ(ran, 2 * n);
}
} // namespace
