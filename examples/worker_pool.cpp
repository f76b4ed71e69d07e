// A pool: three workers take jobs from one channel and send each result as soon as it is ready.
#include <chrono>
#include <cstdio>

#include <grt/grt.hpp>

using namespace std::chrono_literals;

namespace {
struct result {
  int job, worker;
};
} // namespace

int main() {
  grt::run([] {
    grt::chan<int> jobs(9);
    grt::chan<result> results;
    grt::wait_group workers;
    for (int id = 1; id <= 3; id++) {
      workers.go([=] {
        for (int job : jobs) {
          grt::sleep_for(1ms); // the work
          results.send({job, id});
        }
      });
    }
    for (int job = 1; job <= 9; job++) jobs.send(job);
    jobs.close();
    grt::go([&] {
      workers.wait();
      results.close();
    });
    int done[4] = {};
    for (result& r : results) done[r.worker]++;
    std::printf("worker 1: %d jobs, worker 2: %d, worker 3: %d\n", done[1], done[2], done[3]);
  });
}
