// A select waits for a slow answer, but not for ever.
#include <chrono>
#include <cstdio>

#include <grt/grt.hpp>

using namespace std::chrono_literals;

int main() {
  grt::chan<int> answer(1); // one slot, so that the late goroutine can send its answer and end
  grt::go([=] {
    grt::sleep_for(50ms);
    answer.send(42);
  });
  grt::select(grt::on_recv(answer, [](std::optional<int> v) { std::printf("the answer is %d\n", *v); }),
              grt::on_timeout(5ms, [] { std::puts("too slow: no answer in 5 ms"); }));
  std::printf("later: %d\n", *answer.recv());
}
