// tests/debug/gdb_program.cpp - three parked goroutines and an abort, for gdb_test.sh.
#include <cstdlib>

#include <grt/grt.hpp>

#include "tests/support/waiting.hpp"

extern "C" {
GRT_DETAIL_NOINLINE int inner(const grt::chan<int>& c, int depth) { return c.recv().value_or(depth) + 1; }
GRT_DETAIL_NOINLINE int outer(const grt::chan<int>& c, int depth) { return inner(c, depth + 1) + 1; }
}

int main() {
  grt::run([] {
    grt::chan<int> c;
    grt::mutex m;
    m.lock();
    grt::go(grt::attr{.name = "receiver"}, [=] { outer(c, 40); });
    grt::go(grt::attr{.name = "selector"}, [=] { grt::select(grt::on_recv(c), grt::on_recv(grt::chan<int>())); });
    grt::go(grt::attr{.name = "locker"}, [&] { m.lock(); });
    await_waiting(2);
    std::abort();
  });
}
