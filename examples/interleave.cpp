// Three goroutines each speak three times and sleep in between: their lines interleave.
#include <chrono>
#include <cstdio>

#include <grt/grt.hpp>

using namespace std::chrono_literals;

namespace {
void say(const char* s) {
  for (int i = 1; i <= 3; i++) {
    std::printf("%s %d\n", s, i);
    grt::sleep_for(10ms); // the goroutine waits; its thread runs the others
  }
}
} // namespace

int main() {
  grt::go(say, "Hello");
  grt::go(say, "World");
  grt::go(say, "!");
  grt::sleep_for(50ms); // when main returns, goroutines do not run any more
}
