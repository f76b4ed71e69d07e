// Three goroutines work, one channel collects, and the range ends when the channel is closed.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::run([] {
    grt::chan<int> squares(4);
    grt::wait_group workers;
    for (int w = 1; w <= 3; w++) {
      workers.go([=] { squares.send(w * w); });
    }
    grt::go([&] {
      workers.wait();
      squares.close();
    });
    int sum = 0;
    for (int v : squares) sum += v;
    std::printf("1 + 4 + 9 = %d\n", sum);
  });
}
