// What a user writes: the same program for each way of linking. A thread of its own takes part.
#include <cstdio>
#include <thread>

#include <grt/grt.hpp>

int main() {
  grt::chan<int> half, answer;
  std::thread thread([=] { half.send(21); });
  grt::go([=] { answer.send(2 * *half.recv()); });
  std::printf("%d\n", *answer.recv());
  thread.join();
}
