// bench/sched_bench.cpp - what the scheduler promises and throughput does not show: how often it wakes a thread, how
// soon an idle processor starts what another one leaves waiting, and what the owner's bracket costs.
//
// Idle*: a goroutine (the maker) computes and gives up its processor at no time until the other one has begun: what it
// makes runnable can begin on another processor only. `Asleep`: the other one sleeps in its futex, for 0 to 10 ms.
// `Watching`: it ran dry 0 to 3 ms ago, spins or naps. Time is from before go() or send() to the first instruction. The
// twins in peers/go know nothing of the sleepers and compute for the same time.
//
// Rejected: the maker waits by yield (then it starts the goroutine itself); a futex of the benchmark's own to tell that
// the goroutine has begun (its wake would be in the next round's time).
#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <thread>
#include <vector>

#include <grt/grt.hpp>

#include "base/futex.hpp"
#include "bench/sched_bench.hpp"
#include "sched/core/sched.hpp"

namespace {
using namespace grt;
using std::chrono::microseconds, std::chrono::milliseconds;
using steady = std::chrono::steady_clock;

// ---- Wakes. f(n) makes n operations of `handovers` hand-overs each.

template <class F> void add_wakes(const char* name, int handovers, F f, long iterations = 0) {
  auto* b = benchmark::RegisterBenchmark(name, [=](benchmark::State& s) {
    run([&] {
      const auto n = s.max_iterations;
      std::uint64_t before = debug::read_metrics().wakes;
      while (s.KeepRunningBatch(n)) f(static_cast<long>(n));
      s.counters["wakes_per_handover"] =
          static_cast<double>(debug::read_metrics().wakes - before) / (static_cast<double>(n) * handovers);
    });
  });
  b->UseRealTime();
  if (iterations) b->Iterations(iterations);
}

void ping_pong(long n) {
  chan<long> a, c;
  go([=] {
    for (long v : a) c.send(v);
  });
  for (long i = 0; i < n; i++) {
    a.send(i);
    c.recv();
  }
  a.close();
}
void compute(microseconds t) {
  for (auto end = steady::now() + t; steady::now() < end;) arch::relax();
}
void fan_out(long n, int workers, microseconds work) {
  chan<long> a;
  wait_group w;
  for (int k = 0; k < workers; k++)
    w.go([=] {
      for (long v : a) {
        benchmark::DoNotOptimize(v);
        if (work.count()) compute(work);
      }
    });
  for (long i = 0; i < n; i++) a.send(i);
  a.close();
  w.wait();
}
void spawn_from_idle(long n) { // all sleep, a timer wakes one, it starts one more and waits for it
  for (long i = 0; i < n; i++) {
    sleep_for(microseconds(300));
    wait_group w;
    w.go([] {});
    w.wait();
  }
}

// ---- Idle starts

enum class other { asleep, watching };
constexpr milliseconds patience{50}; // then the round counts as that

struct random_time {
  std::uint32_t x = 1;
  microseconds below(microseconds most) {
    x = x * 1664525u + 1013904223u;
    return most * (x >> 16) / 65536;
  }
};
void settle(other o, random_time& r) {
  if (o == other::watching) return compute(r.below(milliseconds(3)));
  sleep_for(microseconds(300)); // with nobody running the other one does not watch for long
  while (!need_watch.load(std::memory_order_relaxed)) arch::relax();
  compute(r.below(milliseconds(10)));
}

void report(benchmark::State& s, std::vector<double>& us) {
  std::sort(us.begin(), us.end());
  for (auto [name, part] : {std::pair{"median_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}})
    s.counters[name] = us[static_cast<std::size_t>(part * static_cast<double>(us.size() - 1))];
}

// make(begun) makes a goroutine runnable that stores its time there.
template <class Make> void idle_rounds(benchmark::State& s, other o, Make make) {
  std::vector<double> us;
  std::atomic<steady::rep> begun;
  random_time r;
  for (auto _ : s) {
    settle(o, r);
    begun.store(0, std::memory_order_relaxed);
    steady::time_point start = steady::now();
    make(begun);
    while (!begun.load(std::memory_order_relaxed) && steady::now() - start < patience) arch::relax();
    bool late = !begun.load(std::memory_order_relaxed);
    while (!begun.load(std::memory_order_acquire)) yield();
    std::chrono::duration<double> took =
        late ? patience : steady::duration(begun.load(std::memory_order_relaxed)) - start.time_since_epoch();
    s.SetIterationTime(took.count());
    us.push_back(took.count() * 1e6);
  }
  report(s, us);
}
void stamp(std::atomic<steady::rep>& begun) {
  begun.store(steady::now().time_since_epoch().count(), std::memory_order_release);
}
void idle_start(benchmark::State& s, other o) {
  idle_rounds(s, o, [](auto& begun) { go([&begun] { stamp(begun); }); });
}
void idle_send(benchmark::State& s, other o) {
  chan<std::atomic<steady::rep>*> c;
  wait_group w;
  w.go([=] {
    for (auto* begun : c) stamp(*begun);
  });
  idle_rounds(s, o, [&](auto& begun) { c.send(&begun); });
  c.close();
  w.wait();
}
// What the machine itself needs: a thread asleep in a futex, woken by a goroutine that computes.
void idle_futex(benchmark::State& s, other o) {
  std::atomic<std::uint32_t> rounds{0};
  std::atomic<std::atomic<steady::rep>*> now{nullptr};
  std::thread t([&] {
    for (std::uint32_t seen = 0;;) {
      futex_wait(&rounds, seen);
      if (rounds.load(std::memory_order_acquire) == seen) continue;
      seen++;
      auto* begun = now.load(std::memory_order_relaxed);
      if (!begun) return;
      stamp(*begun);
    }
  });
  auto wake = [&](std::atomic<steady::rep>* begun) {
    now.store(begun, std::memory_order_relaxed);
    rounds.fetch_add(1, std::memory_order_release);
    futex_wake(&rounds);
  };
  idle_rounds(s, o, [&](auto& begun) { wake(&begun); });
  wake(nullptr);
  t.join();
}
void add_idle(const char* name, void (*f)(benchmark::State&, other), other o) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& s) { run([&] { f(s, o); }); })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(1000);
}

// ---- The bracket. In a register, as the paths that use it have it: the M.

template <class F> void add_bracket(const char* name, F f) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& s) {
    run([&] {
      M* m = me();
      while (s.KeepRunningBatch(1000))
        for (int i = 0; i < 1000; i++) {
          f(m);
          benchmark::DoNotOptimize(i);
        }
    });
  })->UseRealTime();
}
} // namespace

void add_sched_benchmarks() {
  add_wakes("WakesPingPong", 2, ping_pong);
  add_wakes("WakesStream0", 1, [](long n) { fan_out(n, 1, microseconds(0)); });
  add_wakes("WakesFanOut8", 1, [](long n) { fan_out(n, 8, microseconds(0)); });
  add_wakes("WakesFanOut8Work20us", 1, [](long n) { fan_out(n, 8, microseconds(20)); });
  add_wakes("WakesSpawnFromIdle", 1, spawn_from_idle, 2000);
  if (procs() > 1) {
    add_idle("IdleStartAsleep", idle_start, other::asleep);
    add_idle("IdleStartWatching", idle_start, other::watching);
    add_idle("IdleFutexAsleep", idle_futex, other::asleep);
    add_idle("IdleSendAsleep", idle_send, other::asleep);
    add_idle("IdleSendWatching", idle_send, other::watching);
  }
  add_bracket("BracketNone", [](M*) {});
  add_bracket("Bracket", [](M*& m) {
    m = enter_here(m);
    leave(m);
  });
  add_bracket("BracketFence", [](M*) { std::atomic_thread_fence(std::memory_order_seq_cst); });
  add_bracket("BracketExchange", [](M*) {
    static std::atomic<int> word;
    benchmark::DoNotOptimize(word.exchange(1, std::memory_order_seq_cst));
  });
}
