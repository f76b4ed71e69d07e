// Two services, a clock and a counter, run beside the main goroutine, which prints the totals. Closing one channel
// stops both.
#include <chrono>
#include <cstdio>

#include <grt/grt.hpp>

using namespace std::chrono_literals;

namespace {
void clock_service(grt::send_chan<int> ticks, grt::recv_chan<void> stop) {
  grt::ticker every(2ms);
  for (int n = 1;; n++) {
    if (grt::select(grt::on_recv(every.c()), grt::on_recv(stop)) == 1) return;
    if (grt::select(grt::on_send(ticks, n), grt::on_recv(stop)) == 1) return;
  }
}

void counter_service(grt::recv_chan<int> ticks, grt::send_chan<int> totals, grt::recv_chan<void> stop) {
  int total = 0;
  for (;;) {
    std::optional<int> tick;
    if (grt::select(grt::on_recv(ticks, tick), grt::on_recv(stop)) == 1) return;
    total += *tick;
    if (grt::select(grt::on_send(totals, total), grt::on_recv(stop)) == 1) return;
  }
}
} // namespace

int main() {
  grt::run([] {
    grt::chan<int> ticks, totals;
    grt::chan<void> stop;
    grt::wait_group services;
    services.go([=] { clock_service(ticks, stop); });
    services.go([=] { counter_service(ticks, totals, stop); });
    for (int i = 0; i < 4; i++) std::printf("total after %d ticks: %d\n", i + 1, *totals.recv());
    stop.close();
    services.wait();
    std::puts("all services have stopped");
  });
}
