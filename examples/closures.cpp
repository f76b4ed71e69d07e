// Closures: a variable captured by reference is shared with the goroutine; an argument is copied when go is called.
#include <cstdio>
#include <string>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    grt::chan<void> done;
    std::string name = "early";

    grt::go(
        [=](std::string copy) { // evaluated now, like the arguments of Go's `go f(x)`
          std::printf("argument:  %s\n", copy.c_str());
          done.send();
        },
        name);
    grt::go([=] { // a copy inside the closure
      std::printf("by value:  %s\n", name.c_str());
      done.send();
    });
    name = "late";
    grt::go([&] { // no copy: it sees what the variable holds when it runs
      std::printf("reference: %s\n", name.c_str());
      done.send();
    });
    for (int i = 0; i < 3; i++) done.recv(); // also keeps `name` alive for the third
  });
}
