// A thousand goroutines are abandoned at exit and own blocks in every way one can; none of these is a leak. With the
// argument `lost`, one block of 12,345 bytes is, and only that one may be reported.
#include <array>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <grt/grt.hpp>

namespace {
using block = std::unique_ptr<char[]>;
block make() { return block(new char[100]); }

// The last pointer stood in the closure of a goroutine that has ended; the maker's stack is gone, too.
GRT_DETAIL_NOINLINE void lose(std::size_t n) {
  std::size_t others = grt::goroutines();
  grt::wait_group w;
  w.go([&w, n] {
    char* p = new char[n];
    w.go([p] { p[0] = 1; });
  });
  w.wait();
  while (grt::goroutines() > others) grt::yield(); // both end a moment after
  for (int i = 0; i < 100; i++) grt::yield();
}

// Only in a register that the switch saves.
GRT_DETAIL_NOINLINE void in_a_register(const grt::chan<void>& never) {
  char* p = make().release();
  asm volatile("" : "+r"(p));
  never.recv();
  asm volatile("" : "+r"(p));
  delete[] p;
}
} // namespace

int main(int argc, char**) {
  grt::run([=] {
    grt::chan<void> parked(1000), never;
    grt::mutex held;
    held.lock();
    for (int i = 0; i < 100; i++) {
      grt::go([=] { // a local, and what hangs from it
        std::vector<std::string> strings(3, std::string(100, 'x'));
        parked.send();
        never.recv();
      });
      grt::go([=, b = make()] { // a closure in the goroutine's slot
        parked.send();
        never.recv();
        b[0] = 1;
      });
      grt::go([=, b = make(), pad = std::array<char, 200>{}] { // a closure on the heap
        parked.send();
        never.recv();
        b[0] = pad[0];
      });
      grt::go([=] { // a value inside a channel
        grt::chan<block> c(4);
        c.send(make());
        parked.send();
        never.recv();
      });
      grt::go([=] { // a value under way to a receiver that never comes
        grt::chan<block> c;
        parked.send();
        c.send(make());
      });
      grt::go([=] {
        parked.send();
        in_a_register(never);
      });
      grt::go(grt::attr{.name = "big", .stack_max = 512 << 10}, [=] {
        block b = make();
        parked.send();
        never.recv();
      });
      grt::go([=] {
        block b = make();
        parked.send();
        grt::sleep_for(std::chrono::hours(1));
      });
      grt::go([=] {
        block b = make();
        parked.send();
        grt::chan<int> other;
        grt::select(grt::on_recv(never), grt::on_recv(other));
      });
      grt::go([&held, parked] {
        block b = make();
        parked.send();
        std::lock_guard hold(held);
      });
    }
    for (int i = 0; i < 1000; i++) parked.recv();
    if (argc > 1) lose(12345);
    for (int i = 0; i < 100; i++) grt::go([b = make()] { b[0] = 1; }); // some of these never begin
    std::puts(grt::goroutines() > 1000 ? "abandoned" : "?");
    std::fflush(stdout);
    std::exit(0); // with this goroutine's frames, and `held`, still there
  });
}
