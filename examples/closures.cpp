// Lambdas as goroutines: a capture by reference is shared; an argument or a capture by value is copied at once.
#include <cstdio>
#include <string>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    grt::chan<void> done;
    std::string name = "early";

    grt::go(
        [=](std::string copy) { // copied now, as Go evaluates the arguments of `go f(x)`
          std::printf("argument:  %s\n", copy.c_str());
          done.send();
        },
        name);
    grt::go([=] { // the closure has a copy
      std::printf("by value:  %s\n", name.c_str());
      done.send();
    });
    name = "late";
    grt::go([&] { // no copy: the goroutine reads the variable when it runs
      std::printf("reference: %s\n", name.c_str());
      done.send();
    });
    for (int i = 0; i < 3; i++) done.recv(); // also keeps `name` alive for the third goroutine
  });
}
