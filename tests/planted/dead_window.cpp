// A pointer to the stack of a goroutine that has ended, which AddressSanitizer (also with its use-after-return mode
// off) and Valgrind must report.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    volatile int* gone = nullptr;
    grt::wait_group w;
    w.go([&] {
      volatile int local = 1;
      gone = &local;
      grt::yield();
    });
    w.wait();
    int sum = 0;
    for (int i = 0; i < 300; i++) { // it ends a moment after the wait
      sum += *gone;
      grt::sleep_for(std::chrono::milliseconds(1));
    }
    std::printf("%d\n", sum);
  });
}
