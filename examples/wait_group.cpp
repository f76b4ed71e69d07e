// hello.cpp without the sleep: a wait_group tells when the goroutines have ended.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    for (const char* word : {"Hello", "World", "!"}) {
      grt::wait_group said;
      said.go([=] { std::puts(word); });
      said.wait(); // waits for each goroutine, so they print in order
    }
  });
}
