// tests/fatal/plugin.cpp - a shared library with the runtime inside, for programs that know nothing of it.
#include <cstdlib>
#include <stdexcept>

#include <grt/grt.hpp>

using namespace grt;

extern "C" int plugin_sum(int n) {
  return run([n] {
    chan<int> c(4);
    wait_group w;
    for (int i = 1; i <= n; i++) w.go([=] { c.send(i); });
    go([&w, c] {
      w.wait();
      c.close();
    });
    int sum = 0;
    for (int v : c) sum += v;
    try {
      run([] { throw std::runtime_error("through the library"); });
    } catch (const std::runtime_error&) {
      return sum;
    }
    return 0;
  });
}
extern "C" void plugin_leave_running() {
  go([] {
    for (;;) yield();
  });
  go([] { chan<int>().recv(); });
}
extern "C" void plugin_die() {
  run([] {
    go([] { throw std::runtime_error("boom"); });
    chan<int>(nil).recv();
  });
}
