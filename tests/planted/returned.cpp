// A pointer to a local of a function that has returned, used by its goroutine after a switch: AddressSanitizer's
// use-after-return mode must report it.
#include <cstdio>

#include <grt/grt.hpp>

static GRT_DETAIL_NOINLINE void keep(volatile int** out) {
  volatile int local = 1;
  *out = &local;
  grt::yield();
}

int main() {
  grt::run([] {
    grt::go([] {
      for (int i = 0; i < 10; i++) grt::yield();
    });
    volatile int* gone = nullptr;
    keep(&gone);
    grt::yield();
    std::printf("%d\n", *gone);
  });
}
