// bench/runtime_bench.cpp - the twins of bench/peers/go/runtime_test.go: same name, same unit of work.
//
// Each body runs n operations in one goroutine, as Go's b.N loop does; making channels and goroutines is inside the
// time on both sides. Real time.
#include <benchmark/benchmark.h>
#include <cstdlib>
#include <mutex>

#include <grt/grt.hpp>

#include "bench/sched_bench.hpp"

namespace {
using namespace grt;

template <class F> void measure(benchmark::State& s, F f) {
  run([&] {
    const auto n = s.max_iterations;
    while (s.KeepRunningBatch(n)) f(static_cast<long>(n));
  });
}
template <class F> void add(const char* name, F f, long iterations = 0) {
  auto* b = benchmark::RegisterBenchmark(name, [f](benchmark::State& s) { measure(s, f); })->UseRealTime();
  if (iterations) b->Iterations(iterations);
}

void yields(long n, int goroutines) {
  wait_group ready, done;
  chan<void> start;
  long each = n / goroutines + 1;
  for (int i = 0; i < goroutines; i++) {
    ready.add(1);
    done.add(1);
    go([&] {
      ready.done();
      start.recv();
      for (long j = 0; j < each; j++) yield();
      done.done();
    });
  }
  ready.wait();
  start.close();
  done.wait();
}

void spawn_batch(long n) {
  wait_group w;
  for (long i = 0; i < n; i++) {
    w.add(1);
    go([&] { w.done(); });
    if (i % 1000 == 999) w.wait();
  }
  w.wait();
}
void spawn_one(long n) {
  for (long i = 0; i < n; i++) {
    wait_group w;
    w.add(1);
    go([&] { w.done(); });
    w.wait();
  }
}

void ping_pong(long n) {
  chan<long> a, c;
  go([=] {
    for (long v : a) c.send(v);
    c.close();
  });
  for (long i = 0; i < n; i++) {
    a.send(i);
    c.recv();
  }
  a.close();
}
void stream(long n, std::size_t capacity) {
  chan<long> a(capacity);
  go([=] {
    for (long i = 0; i < n; i++) a.send(i);
    a.close();
  });
  for (long v : a) benchmark::DoNotOptimize(v);
}
void uncontended(long n) {
  chan<long> a(1);
  for (long i = 0; i < n; i++) {
    a.send(i);
    a.recv();
  }
}
void mpmc(long n) {
  chan<long> a(128);
  wait_group producers, consumers;
  for (int k = 0; k < 16; k++) {
    consumers.go([&] {
      for (long v : a) benchmark::DoNotOptimize(v);
    });
    producers.go([&] {
      for (long i = 0; i < n / 16 + 1; i++) a.send(i);
    });
  }
  producers.wait();
  a.close();
  consumers.wait();
}

void select_two(long n) {
  chan<long> a, c;
  chan<void> done;
  go([=] {
    for (long i = 0; i < n; i++) (i & 1 ? c : a).send(i);
    done.close();
  });
  while (select(on_recv(a), on_recv(c), on_recv(done)) != 2) {
  }
}
void select_nonblocking(long n) {
  chan<long> a;
  for (long i = 0; i < n; i++) select(on_recv(a), on_default());
}

void mutex_uncontended(long n) {
  mutex m;
  for (long i = 0; i < n; i++) {
    m.lock();
    m.unlock();
  }
}
template <class F> void contended(long n, F inside) {
  mutex m;
  wait_group w;
  long x = 0;
  for (int k = 0; k < 16; k++)
    w.go([&] {
      for (long i = 0; i < n / 16 + 1; i++) {
        std::lock_guard hold(m);
        inside();
        benchmark::DoNotOptimize(x++);
      }
    });
  w.wait();
}

void timer_start_stop(long n) {
  for (long i = 0; i < n; i++) after_func(std::chrono::hours(1), [] {}).stop();
}

void context_cancel(long n) {
  for (long i = 0; i < n; i++) {
    auto [ctx, cancel] = with_cancel(background());
    cancel();
  }
}
void context_timeout(long n) {
  for (long i = 0; i < n; i++) {
    auto [ctx, cancel] = with_timeout(background(), std::chrono::hours(1));
    cancel();
  }
}

// Closing the first channel lets the whole ring end; unlike Go's, it is waited for, inside the time.
void ring(long n) {
  constexpr int size = 1000;
  wait_group gone;
  chan<long> first, left = first;
  for (int i = 0; i < size; i++) {
    chan<long> right;
    gone.go([=] {
      for (long v : left) right.send(v);
      right.close();
    });
    left = right;
  }
  for (long i = 0; i < n / size + 1; i++) {
    go([=] { first.send(i); });
    left.recv();
  }
  first.close();
  gone.wait();
}

long fib(long n) {
  if (n < 2) return n;
  chan<long> c(1);
  go([=] { c.send(fib(n - 1)); });
  long y = fib(n - 2);
  return *c.recv() + y;
}
void skynet(const chan<long>& out, long num, long size) {
  if (size == 1) return out.send(num);
  chan<long> in;
  long step = size / 10, sum = 0;
  for (int i = 0; i < 10; i++) go([=] { skynet(in, num + i * step, step); });
  for (int i = 0; i < 10; i++) sum += *in.recv();
  out.send(sum);
}
void skynets(long n) {
  for (long i = 0; i < n; i++) {
    chan<long> c;
    go([=] { skynet(c, 0, 1000000); });
    if (*c.recv() != 499999500000) std::abort();
  }
}
} // namespace

int main(int argc, char** argv) {
  add("Yield2", [](long n) { yields(n, 2); });
  add("Yield1000", [](long n) { yields(n, 1000); });
  add(
      "Yield100000", [](long n) { yields(n, 100000); },
      10000000); // 100,000 starts are in it; compare.py has Go do as many
  add("SpawnBatch", spawn_batch);
  add("SpawnOne", spawn_one);
  add("ChanPingPong", ping_pong);
  add("ChanStream0", [](long n) { stream(n, 0); });
  add("ChanStream128", [](long n) { stream(n, 128); });
  add("ChanUncontended", uncontended);
  add("ChanMPMC16", mpmc);
  add("SelectTwo", select_two);
  add("SelectNonblocking", select_nonblocking);
  add("MutexUncontended", mutex_uncontended);
  add("MutexContended16", [](long n) { contended(n, [] {}); });
  add("MutexYieldContended16", [](long n) { contended(n, [] { yield(); }); });
  add("TimerStartStop", timer_start_stop);
  add("ContextCancel", context_cancel);
  add("ContextTimeout", context_timeout);
  add("Ring1000", ring, 1000000);
  add("Fib22", [](long n) {
    while (n--) fib(22);
  });
  add("Skynet1M", skynets);
  add_sched_benchmarks();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
