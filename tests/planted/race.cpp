// A data race between two goroutines, which ThreadSanitizer must report: at one P as well, where no two threads are
// involved.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    int shared = 0;
    grt::chan<void> done(2);
    for (int k = 0; k < 2; k++)
      grt::go([&] {
        shared++;
        done.send();
      });
    done.recv();
    done.recv();
    std::printf("%d\n", shared);
  });
}
