// Without guessing how long goroutines take: a wait_group knows when all of them are done.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    for (const char* word : {"Hello", "World", "!"}) {
      grt::wait_group said;
      said.go([=] { std::puts(word); });
      said.wait(); // in order, because each is waited for
    }
  });
}
