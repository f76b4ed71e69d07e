// A branch on what a dead goroutine left on the stack, which Valgrind must report: a new goroutine's stack is
// undefined, used before or not.
#include <cstdio>

#include <grt/grt.hpp>

static GRT_DETAIL_NOINLINE void fill() {
  volatile char all[1024];
  for (volatile char& c : all) c = 1;
}
static GRT_DETAIL_NOINLINE bool read() {
  volatile char all[1024];
  return all[512] == 1;
}

int main() {
  grt::run([] {
    for (void (*f)() : {+[] { fill(); }, +[] { std::puts(read() ? "old" : "new"); }}) {
      grt::wait_group w;
      w.go(f);
      w.wait();
    }
  });
}
