// tests/sched/trace_test.cpp - the event record: what is in it, what it counts as lost, and that it keeps no memory.
#include "tests/support/fixture.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <limits>
#include <thread>
#include <vector>

#include <grt/trace.hpp>

#include "sched/core/sched.hpp"
#include "tests/support/attempt.hpp"

namespace {
using namespace grt;
using trace::event, trace::kind, trace::wait_reason;

/// Whatever a test leaves running is stopped.
class Trace : public GrtTest {
protected:
  void TearDown() override {
    try {
      (void)trace::stop_recording();
    } catch (const std::logic_error&) {
    }
    GrtTest::TearDown();
  }
};

std::vector<event> about(const trace::recording& r, std::uint64_t g) {
  std::vector<event> all;
  std::copy_if(r.events.begin(), r.events.end(), std::back_inserter(all), [g](const event& e) { return e.g == g; });
  return all;
}
std::size_t count(const std::vector<event>& all, kind k) {
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [k](const event& e) { return e.what == k; }));
}

// A goroutine's whole life: spawned by one, parked, made ready by another, ended. Each step once, in order of time. It
// may be started or go on more than once only where it gives its processor up in between.
TEST_F(Trace, AGoroutinesLife_EachStepInOrder) {
  run([] {
    std::uint64_t me = this_goroutine::id(), other = 0;
    trace::record();
    chan<void> gate;
    {
      attempt waits([&other, gate] {
        other = this_goroutine::id();
        gate.recv();
      });
      EXPECT_TRUE(waits.blocks());
      gate.send();
      waits.join();
    }
    while (goroutines() > 1) yield(); // it has ended
    trace::recording r = trace::stop_recording();
    EXPECT_EQ(r.lost, 0u);
    EXPECT_EQ(r.procs, procs());
    EXPECT_TRUE(std::is_sorted(r.events.begin(), r.events.end(), [](auto& a, auto& b) { return a.ns < b.ns; }));
    std::vector<event> life = about(r, other);
    std::vector<kind> steps;
    for (const event& e : life)
      if (e.what != kind::run && e.what != kind::yield) steps.push_back(e.what);
    EXPECT_EQ(steps, (std::vector<kind>{kind::spawn, kind::park, kind::ready, kind::exit}));
    EXPECT_GE(count(life, kind::run), 2u);
    for (const event& e : life) {
      if (e.what == kind::spawn || e.what == kind::ready) {
        EXPECT_EQ(e.other, me);
      }
      if (e.what == kind::park) {
        EXPECT_EQ(e.arg, static_cast<std::uint32_t>(wait_reason::chan_receive));
      }
      EXPECT_LT(e.p, procs());
    }
  });
}

TEST_F(Trace, WhatAThreadDoes_HasNoProcessor) {
  trace::record();
  std::uint64_t id = 0;
  std::thread([&] {
    chan<std::uint64_t> c;
    go([c] { c.send(this_goroutine::id()); });
    id = *c.recv();
  }).join();
  trace::recording r = trace::stop_recording();
  std::vector<event> life = about(r, id);
  ASSERT_EQ(count(life, kind::spawn), 1u);
  EXPECT_EQ(life.front().what, kind::spawn);
  EXPECT_EQ(life.front().p, trace::no_processor);
  EXPECT_EQ(life.front().other, 0u);
}

// The newest are kept, and the others counted.
TEST_F(Trace, WhatNoLongerFits_IsCounted) {
  run([] {
    const std::size_t most = 64;
    const unsigned n = 1000;
    trace::record(most);
    for (unsigned i = 0; i < n; i++) {
      wait_group w;
      w.go([] {});
      w.wait();
    }
    trace::recording r = trace::stop_recording();
    EXPECT_LE(r.events.size(), most * (procs() + 1));
    EXPECT_GE(r.events.size() + r.lost, 2 * n) << "each goroutine was spawned and has ended, at least";
    EXPECT_GT(r.lost, 0u);
    trace::record(1); // 16 at the least
    for (int i = 0; i < 100; i++) yield();
    for (int i = 0; i < 20; i++) {
      wait_group w;
      w.go([] {});
      w.wait();
    }
    EXPECT_GE(trace::stop_recording().events.size(), 16u);
  });
}

TEST_F(Trace, Misuse) {
  EXPECT_THROW((void)trace::stop_recording(), std::logic_error);
  EXPECT_THROW(trace::record(std::numeric_limits<std::size_t>::max()), std::system_error);
  EXPECT_THROW(trace::record(std::numeric_limits<std::size_t>::max() / sizeof(event)), std::system_error);
  trace::record(); // a failure leaves nothing under way
  EXPECT_THROW(trace::record(), std::logic_error);
  (void)trace::stop_recording();
  EXPECT_THROW((void)trace::stop_recording(), std::logic_error);
}

// The rings go with the recording, whatever their size. 1 << 20 events are 40 MB of address space for each thread.
TEST_F(Trace, RecordingAgainAndAgain_KeepsNoMapping) {
  auto pages = [] {
    std::ifstream f("/proc/self/statm");
    long n = 0;
    f >> n;
    return n;
  };
  run([&] {
    auto once = [](std::size_t n) {
      trace::record(n);
      yield();
      (void)trace::stop_recording();
    };
    for (int i = 0; i < 3; i++) once(1 << 20);
    long before = pages();
    for (int i = 0; i < 20; i++) once(std::size_t{1} << (10 + i % 11));
    EXPECT_LT(pages() - before, 40 * 1024 * 1024 / 4096);
  });
}

// Its thread has no ring of its own, so the record takes a lock, and for that it first gets a processor elsewhere.
TEST_F(Trace, OneThatHasLostItsProcessor_Spawns) {
  run([] {
    std::atomic<bool> stop{false};
    std::atomic<int> ran{0};
    wait_group busy, hogs;
    trace::record();
    for (unsigned i = 0; i < procs() + 1; i++)
      busy.go([&] {
        while (!stop) yield();
      });
    const int n = 30;
    for (int i = 0; i < n; i++)
      hogs.go([&] {
        auto counts = [](void* closure) { ++*static_cast<std::atomic<int>*>(detail::spawn_load(closure)); };
        void* at = detail::spawn_begin_here(counts, nullptr, 0, nullptr);
        detail::spawn_store(at, &ran);
        while (me()->lost.load() != lost_state::gone) asm volatile("");
        detail::spawn_commit(at);
      });
    hogs.wait();
    while (ran < n) yield();
    stop = true;
    busy.wait();
    trace::recording r = trace::stop_recording();
    EXPECT_FALSE(r.events.empty());
  });
}

// Processors made meanwhile have no ring of their own. What happens there is recorded, or counted as lost.
TEST_F(Trace, ProcessorsMadeWhileRecording_AreRecorded) {
  run([] {
    unsigned before = procs();
    trace::record();
    set_procs(before + 3);
    std::atomic<int> ended{0};
    const int n = scaled(3000);
    wait_group w;
    for (int i = 0; i < n; i++)
      w.go([&] {
        for (int k = 0; k < 3; k++) yield();
        ended++;
      });
    w.wait();
    while (goroutines() > 1) yield();
    set_procs(before);
    trace::recording r = trace::stop_recording();
    std::size_t exits = count(r.events, kind::exit), spawns = count(r.events, kind::spawn);
    EXPECT_EQ(ended, n);
    EXPECT_GE(exits + r.lost, static_cast<std::size_t>(n));
    EXPECT_GE(spawns + r.lost, static_cast<std::size_t>(n));
    if (!r.lost) {
      EXPECT_EQ(exits, static_cast<std::size_t>(n));
    }
  });
}

// Writers come late: goroutines switch all the time on every processor, and so do threads, while recordings of changing
// size begin and end. Each recording holds events of its own time only.
TEST_F(Trace, BeginAndEndUnderLoad_HoldsOnlyItsOwnEvents) {
  std::atomic<bool> over{false};
  wait_group w;
  for (int i = 0; i < 8; i++)
    w.go([&] {
      while (!over) yield();
    });
  std::thread outside([&] {
    while (!over) {
      chan<void> c;
      go([c] { c.send(); });
      c.recv();
    }
  });
  std::uint64_t seen = 0;
  for (int i = 0; i < scaled(400); i++) {
    auto t0 = std::chrono::steady_clock::now();
    trace::record(std::size_t{16} << i % 12);
    std::this_thread::yield();
    trace::recording r = trace::stop_recording();
    auto took = std::chrono::steady_clock::now() - t0;
    seen += r.events.size();
    for (const event& e : r.events) {
      ASSERT_LE(e.ns, static_cast<std::uint64_t>(took.count()));
      ASSERT_LE(e.what, kind::wake);
    }
  }
  over = true;
  w.wait();
  outside.join();
  EXPECT_GT(seen, 0u);
}
} // namespace
