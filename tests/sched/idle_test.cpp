// Nobody wakes a processor for a goroutine that was handed over, so those that sleep look now and then.
#include <atomic>
#include <chrono>
#include <thread>

#include "sched/sched.hpp"
#include "tests/support/fixture.hpp"

namespace {
class Idle : public GrtTest {};

// The one that computes has no surplus, so its send wakes nobody; and it never comes back to its scheduler. The main
// thread waits outside the runtime: nothing is blocked there that would make the sleepers look for a deadlock.
TEST_F(Idle, OneHandedOverByAGoroutineThatComputesForEverBegins) {
  grt::chan<int> c;
  std::atomic<bool> begun{false}, over{false};
  grt::go([&, c] {
    grt::go([&, c] {
      c.recv();
      begun = true;
    });
    grt::sleep_for(std::chrono::milliseconds(1)); // it waits in recv, and the other processors have nothing to do
    while (grt::procs() > 1 && !grt::need_watch.load()) {
    }
    c.send(1);
    while (!begun) {
    }
    over = true;
  });
  while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}
} // namespace
