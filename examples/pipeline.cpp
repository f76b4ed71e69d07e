// A pipeline: each stage is a goroutine, and channels connect the stages. Closing the first channel ends every stage,
// after it has handled its remaining values.
#include <cstdio>

#include <grt/grt.hpp>

namespace {
grt::recv_chan<int> count_to(int n) {
  grt::chan<int> out;
  grt::go([=] {
    for (int i = 1; i <= n; i++) out.send(i);
    out.close();
  });
  return out;
}

grt::recv_chan<int> squared(grt::recv_chan<int> in) {
  grt::chan<int> out;
  grt::go([=] {
    for (int v : in) out.send(v * v);
    out.close();
  });
  return out;
}

grt::recv_chan<int> even(grt::recv_chan<int> in) {
  grt::chan<int> out;
  grt::go([=] {
    for (int v : in)
      if (v % 2 == 0) out.send(v);
    out.close();
  });
  return out;
}
} // namespace

int main() {
  grt::run([] {
    for (int v : even(squared(count_to(10)))) std::printf("%d ", v);
    std::puts("");
  });
}
