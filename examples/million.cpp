// One million goroutines wait on one channel; closing the channel wakes all of them.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

#include <grt/grt.hpp>

namespace {
void progress(const char* what, long now, long all) {
  if (!isatty(1)) return;
  constexpr int width = 40;
  int full = static_cast<int>(now * width / all);
  std::printf("\r%-7s [%.*s%*s] %3ld %%%s", what, full, "########################################", width - full, "",
              now * 100 / all, now == all ? "\n" : "");
  std::fflush(stdout);
}
} // namespace

int main() {
  const char* asked = std::getenv("GRT_EXAMPLE_N");
  const long n = asked && std::atol(asked) > 0 ? std::atol(asked) : 1'000'000;
  grt::run([n] {
    const std::size_t before = grt::goroutines();
    grt::chan<void> gate;
    grt::wait_group parked, gone;
    std::atomic<long> woken{0};
    for (long i = 0; i < n; i++) {
      if (i % (n / 50 + 1) == 0) progress("spawned", i, n);
      parked.add(1);
      gone.go([&] {
        parked.done();
        gate.recv();
        woken++;
      });
    }
    parked.wait();
    progress("spawned", n, n);
    std::printf("%zu goroutines parked\n", grt::goroutines() - before);
    gate.close();
    gone.wait();
    std::printf("%ld woken and gone\n", woken.load());
  });
}
