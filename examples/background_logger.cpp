// A logger in the background: log() puts a line into a channel and returns; closing the channel flushes the log.
#include <cstdio>
#include <string>

#include <grt/grt.hpp>

namespace {
class logger {
public:
  logger() {
    grt::go([lines = lines_, flushed = flushed_] {
      int n = 0;
      for (std::string& line : lines) std::printf("[%02d] %s\n", ++n, line.c_str());
      flushed.close();
    });
  }
  ~logger() {
    lines_.close();
    flushed_.recv();
  }
  void log(std::string line) const { lines_.send(std::move(line)); } // waits only if 64 lines are queued

private:
  grt::chan<std::string> lines_{64};
  grt::chan<void> flushed_;
};
} // namespace

int main() {
  grt::run([] {
    logger log;
    grt::wait_group requests;
    for (int r = 1; r <= 3; r++) {
      requests.go([&log, r] {
        log.log("request " + std::to_string(r) + " begins");
        grt::yield();
        log.log("request " + std::to_string(r) + " ends");
      });
    }
    requests.wait();
  });
}
