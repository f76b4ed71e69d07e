// Memory used after another goroutine has freed it, which AddressSanitizer and Valgrind must report.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    int* p = new int(1);
    grt::wait_group w;
    w.go([=] { delete p; });
    w.wait();
    std::printf("%d\n", *static_cast<volatile int*>(p));
  });
}
