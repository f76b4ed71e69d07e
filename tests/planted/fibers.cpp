// Past 8,000 goroutines gcc's ThreadSanitizer would die of a check of its own: the library says so first. Elsewhere the
// program just ends.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    grt::chan<void> stop;
    grt::wait_group w, begun;
    begun.add(9000);
    for (int i = 0; i < 9000; i++)
      w.go([&] {
        begun.done();
        stop.recv();
      });
    begun.wait();
    stop.close();
    w.wait();
    std::puts("9000 ended");
  });
}
