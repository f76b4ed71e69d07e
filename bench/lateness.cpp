// bench/lateness.cpp - how long somebody waits beside goroutines that compute.
//
//   grt_lateness [SCENARIO...] [--seconds N] [--check]    0; 1: --check, and a bound is exceeded; 2: bad arguments
//
// Each scenario prints the median and the worst of what it measures, in milliseconds. The bounds are for a machine with
// nothing else to do.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <time.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <grt/grt.hpp>

namespace {
using namespace grt;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

class waits {
public:
  waits(std::string name, double bound_ms) : name_(std::move(name)), bound_(bound_ms) {}
  void add(steady::duration d) { ms_.push_back(std::chrono::duration<double, std::milli>(d).count()); }
  template <class F> void time(F f) {
    auto from = steady::now();
    f();
    add(steady::now() - from);
  }
  /// false: too long.
  bool print() {
    if (ms_.empty()) return std::printf("  %-34s never got so far\n", name_.c_str()), false;
    std::sort(ms_.begin(), ms_.end());
    bool good = ms_.back() <= bound_;
    std::printf("  %-34s %6zu times  median %8.3f  worst %8.3f  of %4.0f allowed%s\n", name_.c_str(), ms_.size(),
                ms_[ms_.size() / 2], ms_.back(), bound_, good ? "" : "  EXCEEDED");
    return good;
  }

private:
  std::string name_;
  double bound_;
  std::vector<double> ms_;
};

// Neighbours, and a ticker that has begun before them.
class scene {
public:
  explicit scene(std::chrono::seconds lasts) : lasts_(lasts) {}
  std::atomic<bool> stop{false};
  template <class F> void neighbour(F f) {
    neighbours_.push_back([this, f] {
      while (!stop.load(std::memory_order_relaxed)) f();
    });
  }
  void busy_processors() { // each has always somebody who wants it
    for (unsigned i = 0; i < procs() + 1; i++) neighbour([] { yield(); });
  }
  // each(): what it does at every tick.
  template <class F> void tick(waits& late, F each) {
    run([&] {
      wait_group all;
      for (auto& f : neighbours_) all.go(f);
      for (auto end = steady::now() + lasts_; steady::now() < end;) {
        auto due = steady::now() + 5ms;
        sleep_until(due);
        late.add(steady::now() - due);
        each();
      }
      stop = true;
      all.wait();
    });
  }
  void tick(waits& late) {
    tick(late, [] {});
  }

private:
  std::chrono::seconds lasts_;
  std::vector<std::function<void()>> neighbours_;
};

void spin(std::chrono::microseconds d) {
  for (auto end = steady::now() + d; steady::now() < end;) {
  }
}

bool hogs(std::chrono::seconds lasts, unsigned n, double bound) {
  scene s(lasts);
  waits late("lateness of a 5 ms ticker", bound);
  for (unsigned i = 0; i < n; i++) s.neighbour([] {});
  s.tick(late);
  return late.print();
}

// What a program shares: its own locks, malloc, stdio.
bool shared_locks(std::chrono::seconds lasts) {
  constexpr double bound = 500;
  scene s(lasts);
  std::mutex plain;
  mutex own;
  std::FILE* file = std::fopen("/dev/null", "w");
  if (!file) return std::perror("/dev/null"), false;
  waits late("lateness of a 5 ms ticker", bound), for_plain("std::mutex", bound), for_own("grt::mutex", bound),
      for_malloc("malloc and free", bound), for_stdio("fputc", bound);
  s.busy_processors();
  for (int i = 0; i < 4; i++)
    s.neighbour([&] {
      {
        std::lock_guard hold(plain);
        spin(20us);
      }
      {
        std::lock_guard hold(own);
        spin(20us);
      }
      std::free(std::malloc(100'000));
      std::fputc('x', file);
    });
  s.tick(late, [&] {
    for_plain.time([&] { std::lock_guard hold(plain); });
    for_own.time([&] { std::lock_guard hold(own); });
    for_malloc.time([&] { std::free(std::malloc(100'000)); });
    for_stdio.time([&] { std::fputc('x', file); });
  });
  std::fclose(file);
  bool good = late.print();
  for (waits* w : {&for_plain, &for_own, &for_malloc, &for_stdio}) good &= w->print();
  return good;
}

// Locks of the runtime: hogs that use things in passing, and never wait in them.
struct things {
  chan<int> c{1};
  shared_mutex s;
  std::map<std::string, std::function<void()>> all{{"try_send",
                                                    [this] {
                                                      int got;
                                                      if (!c.try_send(1)) c.try_recv(got);
                                                    }},
                                                   {"shared_mutex",
                                                    [this] {
                                                      s.lock_shared();
                                                      s.unlock_shared();
                                                    }},
                                                   {"a timer", [] { after_func(1h, [] {}).stop(); }},
                                                   {"a context", [] {
                                                      auto [ctx, cancel] = with_timeout(background(), 1h);
                                                      cancel();
                                                    }}};
};
bool runtime_locks(std::chrono::seconds lasts) {
  constexpr double bound = 50;
  scene s(lasts);
  things t;
  waits late("lateness of a 5 ms ticker", 500);
  s.busy_processors();
  for (int i = 0; i < 4; i++)
    s.neighbour([&] {
      for (auto& [name, use] : t.all) use();
      spin(20us);
    });
  std::map<std::string, waits> times;
  for (auto& [name, use] : t.all) times.emplace(name, waits(name, bound));
  s.tick(late, [&] {
    for (auto& [name, use] : t.all) times.at(name).time(use);
  });
  bool good = late.print();
  for (auto& [name, w] : times) good &= w.print();
  return good;
}

// Each scenario at one processor. A slice has 10 ms, and up to 4 more until sysmon looks.
constexpr double two_slices = 2 * 14;
bool one_loop(std::chrono::seconds lasts) { return hogs(lasts, 1, two_slices); }
bool one_locker(std::chrono::seconds lasts) {
  scene s(lasts);
  things t;
  std::mutex plain;
  mutex own;
  waits late("lateness of a 5 ms ticker", two_slices);
  s.neighbour([&] {
    for (auto& [name, use] : t.all) use();
    std::scoped_lock hold(plain, own);
  });
  s.tick(late);
  return late.print();
}
bool four_calls(std::chrono::seconds lasts) {
  scene s(lasts);
  waits late("lateness of a 5 ms ticker", two_slices);
  for (int i = 0; i < 4; i++)
    s.neighbour([] {
      timespec t{0, 300'000'000};
      nanosleep(&t, nullptr);
    });
  s.tick(late);
  return late.print();
}

struct scenario {
  const char *name, *says;
  unsigned procs;
  bool (*run)(std::chrono::seconds);
};
const scenario scenarios[] = {
    {"one-loop", "an endless loop", 1, one_loop},
    {"one-locker", "a loop that locks and unlocks everything there is", 1, one_locker},
    {"four-calls", "four unannounced calls of 300 ms, again and again", 1, four_calls},
    {"hogs64", "64 endless loops", 2, [](std::chrono::seconds s) { return hogs(s, 64, 50); }},
    {"hogs1000", "1,000 endless loops", 2, [](std::chrono::seconds s) { return hogs(s, 1000, 1000); }},
    {"locks", "all processors busy, four hogs share locks of the program with the ticker", 2, shared_locks},
    {"runtime", "all processors busy, four hogs use the runtime's objects in passing", 2, runtime_locks},
};
} // namespace

int main(int argc, char** argv) {
  CLI::App app{"How long somebody waits beside goroutines that compute."};
  std::vector<std::string> names, chosen;
  for (auto& s : scenarios) names.push_back(s.name);
  unsigned seconds = 6;
  bool check = false, good = true;
  app.add_option("scenario", chosen, "which ones; default: all")->check(CLI::IsMember(names));
  app.add_option("--seconds", seconds, "for each")->check(CLI::Range(1u, 3600u))->capture_default_str();
  app.add_flag("--check", check, "end with 1 if a bound is exceeded");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) ? 2 : 0;
  }
  for (auto& s : scenarios) {
    if (!chosen.empty() && std::find(chosen.begin(), chosen.end(), s.name) == chosen.end()) continue;
    set_procs(s.procs);
    std::printf("%s: %s; %u P, %u s, milliseconds\n", s.name, s.says, s.procs, seconds);
    std::fflush(stdout);
    good &= s.run(std::chrono::seconds(seconds));
    std::fflush(stdout);
  }
  return check && !good;
}
