// Closures that capture a loop variable by reference may all see its last value. Two correct ways: capture a copy, or
// pass the variable as an argument.
#include <atomic>
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    grt::wait_group w;
    std::atomic<int> shared{0}; // atomic, because the goroutines read it while the loop writes it
    std::printf("shared:  ");
    for (; shared < 3; shared++) w.go([&] { std::printf(" %d", shared.load()); });
    w.wait();

    std::printf("\ncaptured:");
    for (int i = 0; i < 3; i++) w.go([i] { std::printf(" %d", i); });
    w.wait();

    std::printf("\npassed:  ");
    for (int i = 0; i < 3; i++) {
      w.add(1);
      grt::go(
          [&w](int mine) {
            std::printf(" %d", mine);
            w.done();
          },
          i);
    }
    w.wait();
    std::puts("");
  });
}
