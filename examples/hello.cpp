// Three goroutines print; main sleeps, so that all of them run before the program ends.
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
  grt::sleep_for(10ms); // long enough in practice, but not certain: see wait_group.cpp
}
