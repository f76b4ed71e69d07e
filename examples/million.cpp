// One million goroutines wait on one channel; closing it wakes them all.
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include <grt/grt.hpp>

int main() {
  const char* asked = std::getenv("GRT_EXAMPLE_N");
  const long n = asked ? std::atol(asked) : 1'000'000;
  grt::run([n] {
    grt::chan<void> gate;
    grt::wait_group parked, gone;
    std::atomic<long> woken{0};
    for (long i = 0; i < n; i++) {
      parked.add(1);
      gone.go([&] {
        parked.done();
        gate.recv();
        woken++;
      });
    }
    parked.wait();
    std::printf("%zu goroutines parked\n", grt::goroutines() - 1);
    gate.close();
    gone.wait();
    std::printf("%ld woken and gone\n", woken.load());
  });
}
