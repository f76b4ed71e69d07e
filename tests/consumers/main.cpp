// What a user writes: the same program for each way of linking.
#include <cstdio>

#include <grt/grt.hpp>

int main() {
  grt::chan<int> answer;
  grt::go([=] { answer.send(42); });
  std::printf("%d\n", *answer.recv());
}
