// tests/fatal/before_main.cpp - goroutines in a constructor of a static object, and channels that are globals.
#include <cstdio>
#include <cstdlib>

#include <grt/grt.hpp>

using namespace grt;

namespace {
chan<int> results(4);
mutex m;
wait_group all;
int under_lock = 0;

struct early {
  int sum = 0;
  early() {
    for (int i = 1; i <= 100; i++)
      all.go([i] {
        std::lock_guard hold(m);
        under_lock += i;
      });
    all.wait();
    go([] {
      for (int i = 0; i < 10; i++) results.send(i);
      results.close();
    });
    sum = run([] {
      int n = 0;
      for (int v : results) n += v;
      return n;
    });
    go([] { chan<int>().recv(); }); // still there when main ends
  }
  ~early() {
    chan<int> c(1);
    c.send(1);
    if (c.recv() != 1) std::_Exit(9);
    std::puts("over");
  }
} const first;
} // namespace

int main() {
  int later = run([] { return 1; });
  std::printf("%d %d %d\n", first.sum, under_lock, later);
  return first.sum == 45 && under_lock == 5050 && later == 1 ? 0 : 1;
}
