// Anonymous goroutines: a function without a name is started where it is written, with a name and an age as arguments.
#include <chrono>
#include <cstdio>

#include <grt/grt.hpp>

using namespace std::chrono_literals;

int main() {
  grt::go([](const char* name, int age) { std::printf("%s is %d years old\n", name, age); }, "Alice", 30);
  grt::go([](const char* name, int age) { std::printf("%s is %d years old\n", name, age); }, "Bob", 25);
  grt::sleep_for(10ms);
}
