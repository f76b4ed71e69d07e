// Three goroutines speak; main sleeps, so that each gets its turn.
#include <chrono>
#include <cstdio>

#include <grt/grt.hpp>

using namespace std::chrono_literals;

int main() {
  grt::go([] { std::puts("Hello"); });
  grt::sleep_for(10ms);
  grt::go([] { std::puts("World"); });
  grt::sleep_for(10ms);
  grt::go([] { std::puts("!"); });
  grt::sleep_for(10ms); // a guess, not a promise: wait_group shows how to wait for sure
}
