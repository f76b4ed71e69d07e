// A function is called, and then started as a goroutine: grt::go returns at once, and the function runs beside main.
#include <chrono>
#include <cstdio>

#include <grt/grt.hpp>

using namespace std::chrono_literals;

namespace {
void say(const char* s) { std::printf("%s\n", s); }
} // namespace

int main() {
  say("Hello, called directly");          // main continues when say has returned
  grt::go(say, "Hello from a goroutine"); // main continues at once
  grt::sleep_for(10ms); // a guess at how long the goroutine takes; wait_group shows how to wait for it
}
