// bench/peers/boost/runtime_bench.cpp - Boost.Fiber's side of bench/runtime_bench.cpp: same name, same unit of work.
//
// One thread with the round-robin scheduler at GRT_PROCS=1, two with work stealing at 2; an idle one looks for work
// without sleeping, which is Boost's default and its best. Stacks of 16 KB come from malloc, the cheapest it offers.
// There is no wait group (an atomic count and a condition stand for it), no select, no timer that starts a fiber; a
// buffered channel of n holds n - 1 values. Left out: Skynet1M and Yield100000, whose fibers all need their stacks at
// once.
#include <atomic>
#include <benchmark/benchmark.h>
#include <condition_variable>
#include <cstdlib>
#include <malloc.h>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <boost/fiber/algo/work_stealing.hpp>
#include <boost/fiber/all.hpp>

namespace {
namespace fibers = boost::fibers;

template <class F> void go(F f) {
  fibers::fiber(std::allocator_arg, fibers::fixedsize_stack(16 << 10), std::move(f)).detach();
}

class wait_group {
public:
  void add(long n) { n_.fetch_add(n, std::memory_order_relaxed); }
  void done() {
    if (n_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    std::lock_guard hold(m_); // who waits may destroy this once it has the lock
    all_.notify_all();
    idle_ = true;
  }
  void wait() {
    std::unique_lock hold(m_);
    all_.wait(hold, [&] { return idle_; });
    idle_ = false;
  }

private:
  std::atomic<long> n_{0};
  bool idle_ = false;
  fibers::mutex m_;
  fibers::condition_variable all_;
};

template <class F> void measure(benchmark::State& s, F f) {
  fibers::fiber(std::allocator_arg, fibers::fixedsize_stack(256 << 10), [&] {
    const auto n = s.max_iterations;
    while (s.KeepRunningBatch(n)) f(static_cast<long>(n));
  }).join();
}
template <class F> void add(const char* name, F f, long iterations = 0) {
  auto* b = benchmark::RegisterBenchmark(name, [f](benchmark::State& s) { measure(s, f); })->UseRealTime();
  if (iterations) b->Iterations(iterations);
}

void yields(long n, int count) {
  wait_group done;
  done.add(count);
  long each = n / count + 1;
  for (int i = 0; i < count; i++)
    go([&done, each] {
      for (long j = 0; j < each; j++) boost::this_fiber::yield();
      done.done();
    });
  done.wait();
}

void spawn_batch(long n) {
  for (long i = 0; i < n; i += 1000) {
    wait_group w;
    long batch = std::min(1000L, n - i);
    w.add(batch);
    for (long j = 0; j < batch; j++) go([&] { w.done(); });
    w.wait();
  }
}
void spawn_one(long n) {
  for (long i = 0; i < n; i++) fibers::fiber(std::allocator_arg, fibers::fixedsize_stack(16 << 10), [] {}).join();
}

void ping_pong(long n) {
  fibers::unbuffered_channel<long> a, c;
  wait_group w;
  w.add(1);
  go([&] {
    for (long v : a) c.push(v);
    w.done();
  });
  for (long i = 0; i < n; i++) {
    a.push(i);
    c.value_pop();
  }
  a.close();
  w.wait();
}
template <class C> void stream(long n, C& a) {
  wait_group w;
  w.add(1);
  go([&] {
    for (long i = 0; i < n; i++) a.push(i);
    a.close();
    w.done();
  });
  for (long v : a) benchmark::DoNotOptimize(v);
  w.wait();
}
void uncontended(long n) {
  fibers::buffered_channel<long> a(2);
  for (long i = 0; i < n; i++) {
    a.push(i);
    a.value_pop();
  }
}
void mpmc(long n) {
  fibers::buffered_channel<long> a(128);
  wait_group producers, consumers;
  producers.add(16);
  consumers.add(16);
  for (int k = 0; k < 16; k++) {
    go([&] {
      for (long v : a) benchmark::DoNotOptimize(v);
      consumers.done();
    });
    go([&, n] {
      for (long i = 0; i < n / 16 + 1; i++) a.push(i);
      producers.done();
    });
  }
  producers.wait();
  a.close();
  consumers.wait();
}

void mutex_uncontended(long n) {
  fibers::mutex m;
  for (long i = 0; i < n; i++) {
    m.lock();
    m.unlock();
  }
}
template <class F> void contended(long n, F inside) {
  fibers::mutex m;
  wait_group w;
  long x = 0;
  w.add(16);
  for (int k = 0; k < 16; k++)
    go([&, n] {
      for (long i = 0; i < n / 16 + 1; i++) {
        std::lock_guard hold(m);
        inside();
        benchmark::DoNotOptimize(x++);
      }
      w.done();
    });
  w.wait();
}

long fib(long n) {
  if (n < 2) return n;
  fibers::buffered_channel<long> c(2);
  wait_group w;
  w.add(1);
  go([&, n] {
    c.push(fib(n - 1));
    w.done();
  });
  long y = fib(n - 2), x = c.value_pop();
  w.wait();
  return x + y;
}

void ring(long n) {
  constexpr int size = 1000;
  using link = fibers::unbuffered_channel<long>;
  std::vector<std::unique_ptr<link>> links;
  for (int i = 0; i <= size; i++) links.push_back(std::make_unique<link>());
  wait_group gone;
  gone.add(size);
  for (int i = 0; i < size; i++)
    go([&, i] {
      for (long v : *links[i]) links[i + 1]->push(v);
      links[i + 1]->close();
      gone.done();
    });
  for (long i = 0; i < n / size + 1; i++) {
    links[0]->push(i);
    links[size]->value_pop();
  }
  links[0]->close();
  gone.wait();
}

void benchmarks(int argc, char** argv) {
  add("Yield2", [](long n) { yields(n, 2); });
  add("Yield1000", [](long n) { yields(n, 1000); });
  add("SpawnBatch", spawn_batch);
  add("SpawnOne", spawn_one);
  add("ChanPingPong", ping_pong);
  add("ChanStream0", [](long n) {
    fibers::unbuffered_channel<long> a;
    stream(n, a);
  });
  add("ChanStream128", [](long n) {
    fibers::buffered_channel<long> a(128);
    stream(n, a);
  });
  add("ChanUncontended", uncontended);
  add("ChanMPMC16", mpmc);
  add("MutexUncontended", mutex_uncontended);
  add("MutexContended16", [](long n) { contended(n, [] {}); });
  add("MutexYieldContended16", [](long n) { contended(n, [] { boost::this_fiber::yield(); }); });
  add("Ring1000", ring, 1000000);
  add("Fib22", [](long n) {
    while (n--) fib(22);
  });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) std::exit(2);
  benchmark::RunSpecifiedBenchmarks();
}
} // namespace

int main(int argc, char** argv) {
  mallopt(M_TRIM_THRESHOLD, 1 << 30); // else each batch of stacks goes back to the kernel and is faulted in again
  const char* procs = std::getenv("GRT_PROCS");
  if (!procs || std::atoi(procs) < 2) {
    benchmarks(argc, argv);
    return 0;
  }
  std::atomic<int> here{0}; // a thread may look at its sibling only once that is made
  bool over = false;
  fibers::mutex m;
  fibers::condition_variable end;
  auto join_in = [&] {
    fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(2);
    here++;
    while (here < 2) std::this_thread::yield();
  };
  std::thread second([&] {
    join_in();
    std::unique_lock hold(m);
    end.wait(hold, [&] { return over; });
  });
  join_in();
  benchmarks(argc, argv);
  {
    std::lock_guard hold(m);
    over = true;
  }
  end.notify_all();
  second.join();
}
