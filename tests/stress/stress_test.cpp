// Everything at once for GRT_STRESS_SECONDS (1): spawns, channels, selects, locks, timers, exceptions, pins, threads,
// set_procs. The choices follow from GRT_STRESS_SEED; it is printed, and what must hold is counted.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <thread>

#include <time.h>
#include <unistd.h>

namespace {
using namespace grt;
using namespace std::chrono_literals;
using Stress = GrtTest;

unsigned long number(const char* name, unsigned long otherwise) {
  const char* s = std::getenv(name);
  return s ? std::strtoul(s, nullptr, 10) : otherwise;
}

struct state {
  chan<int> values{16};
  chan<int> rendezvous;
  chan<void> stop;
  mutex m;
  long under_lock = 0; // m
  std::atomic<long> locked{0}, sent{0}, received{0}, spawned{0}, ended{0}, fired{0}, armed{0}, stopped{0}, caught{0},
      cancelled{0};
};

void act(state& s, std::mt19937& random, int depth);

// Keeps its thread for longer than a slice: in the kernel, announced or not, or by computing.
void hog(std::mt19937& random) {
  timespec t{0, 15'000'000};
  switch (random() % 3) {
  case 0: nanosleep(&t, nullptr); break;
  case 1: blocking([&] { nanosleep(&t, nullptr); }); break;
  default:
    for (auto end = std::chrono::steady_clock::now() + 15ms; std::chrono::steady_clock::now() < end;) {
    }
  }
}

void child(state& s, unsigned seed, int depth) {
  std::mt19937 random(seed);
  for (int i = static_cast<int>(random() % 6); i > 0; i--) act(s, random, depth + 1);
  s.ended++;
}

void act(state& s, std::mt19937& random, int depth) {
  switch (random() % 16) {
  case 0:
  case 1:
    if (depth < 4) {
      s.spawned++;
      unsigned seed = static_cast<unsigned>(random());
      if (random() % 16 == 0)
        go(attr{.stack_max = 64u << (10 + random() % 4)}, [&s, seed, depth] { child(s, seed, depth); });
      else go([&s, seed, depth] { child(s, seed, depth); });
    }
    break;
  case 2:
    if (s.values.try_send(1)) s.sent++;
    break;
  case 3: {
    int v;
    if (s.values.try_recv(v) == recv_result::ok) s.received++;
    break;
  }
  case 4:
    select(on_send(s.rendezvous, 1, [&] { s.sent++; }), on_recv(s.stop),
           on_timeout(std::chrono::microseconds(random() % 200)));
    break;
  case 5:
    select(on_recv(s.rendezvous, [&](std::optional<int> v) { s.received += v.has_value(); }),
           on_recv(s.values, [&](std::optional<int> v) { s.received += v.has_value(); }), on_recv(s.stop),
           on_timeout(std::chrono::microseconds(random() % 200)));
    break;
  case 6: {
    std::lock_guard hold(s.m);
    s.under_lock++;
    s.locked++;
    if (random() % 4 == 0) yield();
    break;
  }
  case 7:
    if (s.m.try_lock_for(std::chrono::microseconds(random() % 100))) {
      s.under_lock++;
      s.locked++;
      s.m.unlock();
    }
    break;
  case 8: sleep_for(std::chrono::microseconds(random() % 100)); break;
  case 9: {
    s.armed++;
    timer t = after_func(std::chrono::microseconds(random() % 100), [&s] { s.fired++; });
    if (random() % 2) yield();
    if (random() % 2 && t.stop()) s.stopped++;
    break;
  }
  case 10:
    try {
      struct yields {
        ~yields() { yield(); }
      } y;
      throw std::runtime_error("stress");
    } catch (const std::runtime_error&) {
      yield();
      s.caught++;
    }
    break;
  case 11:
    if (random() % 8 == 0 && this_goroutine::pin()) {
      pid_t mine = gettid();
      yield();
      EXPECT_EQ(gettid(), mine);
      this_goroutine::unpin();
    }
    break;
  case 12:
    if (random() % 32 == 0) hog(random);
    break;
  case 13:
    try {
      auto [ctx, cancel] = with_timeout(background(), std::chrono::microseconds(random() % 200));
      defer ends{cancel};
      s.rendezvous.send(1, ctx);
      s.sent++;
    } catch (const std::system_error&) {
      s.cancelled++;
    }
    break;
  default: yield();
  }
}

TEST_F(Stress, EverythingAtOnce) {
  auto seed = static_cast<unsigned>(number("GRT_STRESS_SEED", std::random_device()()));
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(number("GRT_STRESS_SECONDS", 1));
  std::printf("GRT_STRESS_SEED=%u GRT_PROCS=%u\n", seed, procs());
  std::fflush(stdout);
  unsigned before = procs();
  state s;
  std::atomic<bool> over{false};
  std::thread foreign([&] {
    std::mt19937 random(seed + 1);
    while (!over) act(s, random, 3);
  });
  run([&] {
    std::mt19937 random(seed);
    wait_group roots;
    while (std::chrono::steady_clock::now() < end) {
      for (int k = 0; k < 20; k++) roots.go([&s, one = static_cast<unsigned>(random())] { child(s, one, 0); });
      s.spawned += 20;
      if (random() % 50 == 0) set_procs(1 + static_cast<unsigned>(random()) % (2 * before));
      roots.wait();
    }
  });
  over = true;
  foreign.join();
  s.stop.close();
  while (s.ended < s.spawned || s.fired + s.stopped < s.armed) sleep_for(1ms);
  EXPECT_EQ(s.under_lock, s.locked.load());
  int v;
  while (s.values.try_recv(v) == recv_result::ok) s.received++;
  EXPECT_EQ(s.sent.load(), s.received.load());
  EXPECT_EQ(s.fired + s.stopped, s.armed.load());
  std::printf("%ld goroutines, %ld values, %ld locks, %ld timers, %ld cancelled\n", s.spawned.load(), s.sent.load(),
              s.locked.load(), s.armed.load(), s.cancelled.load());
  set_procs(before);
}
} // namespace
