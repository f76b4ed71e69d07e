// tests/sched/go_test.cpp - spawn, run, yield, exceptions, sleep, procs, stacks.
#include "tests/support/fixture.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "tests/support/turn.hpp"

using namespace grt;
using namespace std::chrono_literals;

namespace {
using Go = GrtTest;
using RunCall = GrtTest;
using Exceptions = GrtTest;
using Procs = GrtTest;
using Sleep = GrtTest;
using Stacks = GrtTest;
using Steal = GrtTest;
using Fairness = GrtTest;

TEST_F(Go, ArgumentsAreDecayCopiedAtOnce) {
  chan<std::string> c(1);
  std::string s = "then";
  go([c](std::string v) { c.send(std::move(v)); }, s);
  s = "now";
  EXPECT_EQ(c.recv(), "then");
}

TEST_F(Go, LargeClosureAndThrowingCopy) {
  std::array<char, 1000> big{};
  big[999] = 7;
  chan<int> c(1);
  go([=] { c.send(big[999]); });
  EXPECT_EQ(c.recv(), 7);
  struct thrower {
    thrower() = default;
    thrower(const thrower&) { throw std::runtime_error("copy"); }
    void operator()() const {}
  } t;
  EXPECT_THROW(go(t), std::runtime_error);
}

TEST_F(Go, NameAndStackSize) {
  chan<std::string> c(1);
  go(attr{.name = "worker", .stack_max = 1 << 20}, [=] {
    auto b = this_goroutine::stack();
    c.send(std::string(this_goroutine::name()) + " " +
           std::to_string((static_cast<char*>(b.high) - static_cast<char*>(b.low)) >> 20));
  });
  EXPECT_EQ(c.recv(), "worker 1");
  EXPECT_THROW(go(attr{.stack_max = 1000}, [] {}), std::invalid_argument);
  EXPECT_THROW(go(attr{.stack_max = 16 << 20}, [] {}), std::invalid_argument);
}

TEST_F(RunCall, ReturnsAndRethrows_NestsAndRepeats) {
  EXPECT_EQ(run([] { return run([] { return 42; }); }), 42);
  EXPECT_THROW(run([]() -> int { throw std::runtime_error("boom"); }), std::runtime_error);
  int x = 1;
  run([&]() -> int& { return x; }) = 5;
  EXPECT_EQ(x, 5);
  EXPECT_EQ(this_goroutine::id(), 0u);
  EXPECT_NE(run([] { return this_goroutine::id(); }), 0u);
}

TEST_F(Exceptions, InFlightAcrossSwitchesAndMigration) {
  run([] {
    wait_group w;
    std::atomic<int> wrong{0};
    struct switcher {
      ~switcher() {
        int n = std::uncaught_exceptions();
        for (int i = 0; i < 20; i++) yield();
        if (std::uncaught_exceptions() != n || n != 1) std::abort();
      }
    };
    for (int g = 0; g < 64; g++)
      w.go([&, g] {
        for (int i = 0; i < scaled(200); i++) {
          try {
            switcher s;
            throw g * 1000 + i;
          } catch (int v) {
            yield();
            try {
              yield();
              throw std::to_string(v);
            } catch (const std::string& t) {
              yield();
              wrong += t != std::to_string(v);
            }
            wrong += v != g * 1000 + i;
            try {
              throw;
            } catch (int again) {
              wrong += again != v;
            }
          }
          wrong += std::current_exception() != nullptr || std::uncaught_exceptions() != 0;
        }
      });
    w.wait();
    EXPECT_EQ(wrong, 0);
  });
}

// Each hop rethrows what it was sent and wraps it: the object is thrown on one goroutine, handled on others.
TEST_F(Exceptions, PointersTravelBetweenGoroutines_AndNest) {
  run([] {
    int depth = 8, n = scaled(500);
    chan<std::exception_ptr> first(4), last = first;
    for (int d = 0; d < depth; d++) {
      chan<std::exception_ptr> in = last, out(4);
      last = out;
      go([=] {
        for (std::exception_ptr e : in) {
          try {
            try {
              std::rethrow_exception(e);
            } catch (...) {
              yield();
              std::throw_with_nested(std::runtime_error(std::to_string(d)));
            }
          } catch (...) {
            e = nullptr;
            out.send(std::current_exception());
          }
        }
        out.close();
      });
    }
    go([=] {
      for (int i = 0; i < n; i++) first.send(std::make_exception_ptr(std::logic_error(std::to_string(-i))));
      first.close();
    });
    struct unwrap {
      static std::string text(const std::exception& e) {
        std::string s = e.what();
        try {
          std::rethrow_if_nested(e);
        } catch (const std::exception& inner) {
          yield();
          s += " " + text(inner);
        }
        return s;
      }
    };
    int i = 0;
    for (std::exception_ptr e : last) try {
        std::rethrow_exception(e);
      } catch (const std::exception& x) {
        EXPECT_EQ(unwrap::text(x), "7 6 5 4 3 2 1 0 " + std::to_string(-i++));
      }
    EXPECT_EQ(i, n);
  });
}

// Handled by several goroutines at once, each waiting in its handler.
TEST_F(Exceptions, OneObjectHandledByMany) {
  run([] {
    auto e = std::make_exception_ptr(std::runtime_error("shared"));
    wait_group w;
    for (int g = 0; g < 50; g++)
      w.go([e] {
        for (int i = 0; i < 10; i++) try {
            std::rethrow_exception(e);
          } catch (const std::runtime_error& x) {
            yield();
            EXPECT_STREQ(x.what(), "shared");
            EXPECT_EQ(std::current_exception(), e);
          }
      });
    w.wait();
  });
}

TEST_F(Procs, ChangeLive_UnderLoad) {
  unsigned before = procs();
  run([] {
    std::atomic<bool> stop{false};
    wait_group w;
    std::atomic<long> rounds{0};
    for (int g = 0; g < 50; g++)
      w.go([&] {
        while (!stop) {
          yield();
          sleep_for(10us);
          rounds++;
        }
      });
    for (unsigned n : {1u, 4u, 2u, 16u, 1u, 3u, 8u, 1u, 2u}) {
      set_procs(n);
      EXPECT_EQ(procs(), n);
      long r = rounds;
      while (rounds < r + 200) sleep_for(100us);
    }
    stop = true;
    w.wait();
  });
  set_procs(before);
}

// Leaders resign, heirs are appointed and timers move while everybody may fall asleep: whatever one of them misses,
// nobody else is there to find.
TEST_F(Procs, ChangeLive_NearlyIdle) {
  unsigned before = procs();
  for (int round = 0; round < scaled(1000); round++)
    run([&] {
      wait_group w;
      for (int g = 0; g < 3; g++)
        w.go([g] {
          for (int i = 0; i < 3; i++) sleep_for(std::chrono::microseconds(20 + 30 * g));
        });
      set_procs(1 + static_cast<unsigned>(round) % 4);
      w.wait();
    });
  set_procs(before);
}

TEST_F(Procs, OutOfRange) {
  EXPECT_THROW(set_procs(0), std::invalid_argument);
  EXPECT_THROW(set_procs(1025), std::invalid_argument);
}

TEST_F(Sleep, NeverShorter_AndInOrder) {
  run([] {
    chan<int> c(10);
    for (int i = 10; i > 0; i--)
      go([=] {
        auto t0 = std::chrono::steady_clock::now();
        auto d = i * 3ms;
        sleep_for(d);
        c.send(std::chrono::steady_clock::now() - t0 >= d ? i : -1);
      });
    for (int i = 0; i < 10; i++) EXPECT_GT(*c.recv(), 0);
  });
}

// A chatty pair hands over through `next`, a spawner never blocks and its children spawn one more: a goroutine at the
// head of the queue behind k others waits no longer than 256 * (k + 1) switches of its processor.
TEST_F(Fairness, ABystandersWaitIsBounded) {
  unsigned before = set_procs(1);
  std::uint64_t worst = 0;
  int turns = 0;
  run([&] {
    std::atomic<bool> stop{false};
    wait_group w;
    chan<int> ping, pong;
    w.go([&] {
      while (!stop) ping.send(1), pong.recv();
      ping.close();
    });
    w.go([&] {
      while (ping.recv()) pong.send(1);
    });
    w.go([&] {
      while (!stop) {
        wait_group children;
        for (int i = 0; i < 100; i++) children.go([&] { children.go([] {}); });
        yield();
        children.wait();
      }
    });
    w.go([&] {
      while (turns < scaled(2000)) {
        turn t = give_way();
        if (!t.at_home) continue; // a hand-off was in it
        turns++;
        worst = std::max(worst, t.waited);
      }
      stop = true;
    });
    w.wait();
  });
  EXPECT_GT(worst, 1u); // there was somebody to wait for
  EXPECT_LE(worst, 256u * (3 + 1));
  set_procs(before);
}

TEST_F(Steal, ABusySpawnersChildRunsElsewhere) {
  if (procs() < 2) GTEST_SKIP() << "one processor";
  if (std::getenv("GRT_DEBUG")) GTEST_SKIP() << "all work stands in the global queue";
  // With everybody awake and busy it may be a hand-off instead; while somebody idles there is none.
  auto taken = [m = debug::read_metrics()] {
    auto now = debug::read_metrics();
    return now.steals - m.steals + now.handoffs - m.handoffs;
  };
  run([] {
    std::atomic<bool> child{false};
    go([&] { child = true; });
    go([] {}); // surplus
    while (!child) {
    } // no scheduling point: only a thief can run it
  });
  EXPECT_GT(taken(), 0u);
}

TEST_F(Stacks, DeepRecursionInsideTheLimit) {
  struct deep {
    static int down(int n) {
      volatile char page[1024];
      page[0] = static_cast<char>(n);
      return n ? down(n - 1) + page[0] - page[0] : 0;
    }
  };
#ifdef GRT_TEST_SLOW
  int frames = 40;
#else
  int frames = 200;
#endif
  EXPECT_EQ(run([&] { return deep::down(frames); }), 0);
}

// They end one after another, each giving way to the next that has begun: the window of each must come back.
TEST_F(Stacks, OfAnUnusualSize_AreReused) {
  std::mutex lock;
  std::set<const void*> seen;
  run([&] {
    for (int round = 0; round < 20; round++) {
      wait_group w;
      for (int i = 0; i < 32; i++) {
        w.add(1);
        go(attr{.stack_max = 512 << 10}, [&] {
          {
            std::lock_guard hold(lock);
            seen.insert(this_goroutine::stack().low);
          }
          yield();
          yield();
          w.done();
        });
      }
      w.wait();
      for (int i = 0; i < 5000 && goroutines() > 1; i++) sleep_for(1ms); // the last may not have left theirs yet
    }
  });
  EXPECT_LE(seen.size(), 2 * 32u);
}

TEST_F(Stacks, ManyParked_AllWokenAndMemoryReused) {
  int n = 40000; // grt_scale takes a million
#if defined(GRT_TEST_SLOW)
  n = 5000;
#endif
  auto mappings = [] {
    int lines = 0;
    FILE* f = std::fopen("/proc/self/maps", "r");
    for (int c; (c = std::getc(f)) != EOF;) lines += c == '\n';
    std::fclose(f);
    return lines;
  };
  auto memory_kb = [] {
    long rss = 0, pte = 0, v;
    char line[256];
    FILE* f = std::fopen("/proc/self/status", "r");
    while (std::fgets(line, sizeof line, f)) {
      if (std::sscanf(line, "VmRSS: %ld", &v) == 1) rss = v;
      if (std::sscanf(line, "VmPTE: %ld", &v) == 1) pte = v;
    }
    std::fclose(f);
    return rss + pte;
  };
  [[maybe_unused]] long before = memory_kb(), first = 0;
  [[maybe_unused]] int maps_before = mappings();
  [[maybe_unused]] auto threads_before = debug::read_metrics().threads;
  for (int round = 0; round < 2; round++)
    run([&] {
      [[maybe_unused]] std::string_view guards_before = debug::guards();
      chan<void> gate;
      wait_group parked, gone;
      parked.add(n);
      gone.add(n);
      for (int i = 0; i < n; i++)
        go([&] {
          parked.done();
          gate.recv();
          gone.done();
        });
      parked.wait();
      long now = memory_kb();
      if (!round) {
        first = now;
#if !defined(GRT_TEST_SLOW)
#ifdef NDEBUG
        constexpr double frames = 1;
#else
        constexpr double frames = 4; // not optimised, they need up to two pages
#endif
        EXPECT_LE((now - before) * 1024.0 / n, (4.1 + frames) * 1024 + static_cast<double>(canary_bytes()));
        // Two a stack, until their budget is spent. A hand-off may make a thread: its stack, malloc's arena for it, a
        // guard for each.
        if (procs() <= 8 && guards_before != "mprotect") {
          EXPECT_LT(mappings() - maps_before,
                    100 + 6 * static_cast<int>(debug::read_metrics().threads - threads_before));
        }
#endif
      } else {
#if !defined(GRT_TEST_SLOW) // shadow memory is not ours
        EXPECT_LT(now, first + first / 20) << "memory is reused";
#endif
      }
      gate.close();
      gone.wait();
    });
}
} // namespace
