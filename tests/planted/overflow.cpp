// A write past an array on a goroutine's stack, which AddressSanitizer must report.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    volatile char array[8];
    volatile int eight = 8;
    grt::yield();
    volatile char* p = array;
    asm volatile("" : "+r"(p)); // else the sanitizer of undefined behaviour knows its bounds and comes first
    p[eight] = 1;
    std::puts("not found");
  });
}
