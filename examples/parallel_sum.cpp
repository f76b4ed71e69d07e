// The sum of a large array: the array is cut into chunks, which all processors add up in parallel.
#include <cstdio>
#include <numeric>
#include <vector>

#include <grt/grt.hpp>

int main() {
  std::vector<long> numbers(4'000'000);
  std::iota(numbers.begin(), numbers.end(), 1);

  long total = grt::run([&] {
    const std::size_t chunk = numbers.size() / 8;
    grt::chan<long> sums(8);
    for (std::size_t from = 0; from < numbers.size(); from += chunk) {
      grt::go([&numbers, sums, chunk, from] {
        sums.send(std::accumulate(numbers.begin() + static_cast<long>(from),
                                  numbers.begin() + static_cast<long>(from + chunk), 0L));
      });
    }
    long sum = 0;
    for (int i = 0; i < 8; i++) sum += *sums.recv();
    return sum;
  });
  std::printf("1 + 2 + ... + %zu = %ld\n", numbers.size(), total);
}
