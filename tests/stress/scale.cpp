// tests/stress/scale.cpp - what must hold at full size: scale SCENARIO N. Prints what it found; 1 if it does not hold.
//   million  N goroutines park and end           the process is near its old size within seconds
//   stacks   N goroutines grow 200 KB of stack   likewise while they are parked, and after their end
//   hogs     N goroutines compute 50 ms each     all of them end, with fewer than 200 threads
// "Near": a tenth more, 16 bytes a goroutine for the lists of free windows and slots, and 8 MB for the slots that two
// Ps put by, each on a page of its own at worst; page tables aside, which stay with the windows that were used. Nobody
// asks for it: the scavenger comes by itself.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string_view>

#include <grt/grt.hpp>

namespace {
using namespace grt;
using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

std::size_t status_kb(const char* key) {
  std::FILE* f = std::fopen("/proc/self/status", "r");
  char line[256];
  std::size_t kb = 0;
  while (f && std::fgets(line, sizeof line, f))
    if (!std::strncmp(line, key, std::strlen(key))) kb = std::strtoul(line + std::strlen(key), nullptr, 10);
  if (f) std::fclose(f);
  return kb;
}
std::size_t rss_kb() { return status_kb("VmRSS:"); }

double seconds_since(clock_type::time_point t) { return std::chrono::duration<double>(clock_type::now() - t).count(); }

// Waits for it; a minute means never.
bool comes_back_to(std::size_t kb, const char* after) {
  auto t0 = clock_type::now();
  while (rss_kb() > kb && seconds_since(t0) < 60) sleep_for(50ms);
  std::size_t now = rss_kb();
  std::printf("%s: %zu KB resident after %.1f s (page tables %zu KB)\n", after, now, seconds_since(t0),
              status_kb("VmPTE:"));
  return now <= kb || (std::printf("that is over %zu KB\n", kb), false);
}

GRT_DETAIL_NOINLINE void grow(std::size_t left) {
  volatile char page[4096];
  page[0] = 1;
  page[sizeof page - 1] = 1;
  if (left > sizeof page) grow(left - sizeof page);
  page[1] = page[0];
}

bool parked_and_gone(int n, std::size_t grown, std::size_t kb_parked) {
  std::size_t before = rss_kb();
  std::printf("before: %zu KB resident\n", before);
  chan<void> gate;
  wait_group parked, done;
  parked.add(n);
  for (int i = 0; i < n; i++)
    done.go([&, gate] {
      if (grown) grow(grown);
      parked.done();
      gate.recv();
    });
  parked.wait();
  std::printf("%d goroutines parked: %zu KB resident\n", n, rss_kb());
  bool good = !grown || comes_back_to(before + kb_parked * static_cast<std::size_t>(n), "still parked");
  gate.close();
  done.wait();
  return comes_back_to(before + before / 10 + static_cast<std::size_t>(n) / 64 + 8192, "ended") && good;
}

bool hogs(int n) {
  std::atomic<std::size_t> most{0};
  std::atomic<int> ended{0};
  wait_group all;
  for (int i = 0; i < n; i++)
    all.go([&] {
      auto cpu = [] {
        timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return t.tv_sec * 1000000000 + t.tv_nsec;
      };
      for (auto end = cpu() + 50000000; cpu() < end;) {
      }
      ended++;
    });
  run([&] {
    ticker t(20ms);
    while (ended < n) {
      t.c().recv();
      std::size_t threads = status_kb("Threads:");
      if (threads > most) most = threads;
    }
  });
  all.wait();
  std::printf("%d goroutines of 50 ms: at most %zu threads\n", n, most.load());
  return most < 200;
}
} // namespace

int main(int argc, char** argv) {
  std::string_view scenario = argc == 3 ? argv[1] : "";
  int n = argc == 3 ? std::atoi(argv[2]) : 0;
  std::function<bool()> what;
  if (scenario == "million") what = [=] { return parked_and_gone(n, 0, 0); };
  if (scenario == "stacks") what = [=] { return parked_and_gone(n, 200 << 10, 16); };
  if (scenario == "hogs") what = [=] { return hogs(n); };
  if (!what || n < 1) return std::fprintf(stderr, "scale: scale million|stacks|hogs N, N from 1\n"), 2;
  if (scenario == "hogs") return what() ? 0 : 1;
  bool good = false;
  run([&] {
    wait_group warm; // the runtime's own memory is part of "before"
    for (int i = 0; i < 1000; i++) warm.go([] { yield(); });
    warm.wait();
    good = what();
  });
  return good ? 0 : 1;
}
