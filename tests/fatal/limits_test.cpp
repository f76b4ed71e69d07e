// What the system may refuse: address space, memory, threads, descriptors, unlocked pages. Whoever asked is told, the
// rest runs on, and once there is room again it works: nothing was lost. Each case is a forked child.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <grt/grt.hpp>

#include "stack/guards.hpp"
#include "tests/support/slow.hpp"

#ifndef GRT_TEST_SANITIZED // their shadow memory is under the same limits
namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;

#define REQUIRE(x)                                                                                                     \
  if (!(x)) (dprintf(2, "line %d: %s\n", __LINE__, #x), std::_Exit(1))

void limit(int what, rlim_t n) {
  rlimit most{};
  getrlimit(static_cast<__rlimit_resource>(what), &most);
  most.rlim_cur = n;
  REQUIRE(setrlimit(static_cast<__rlimit_resource>(what), &most) == 0);
}
rlim_t hard(int what) {
  rlimit most{};
  getrlimit(static_cast<__rlimit_resource>(what), &most);
  return most.rlim_max;
}
void work() {
  wait_group w;
  for (int i = 0; i < 100; i++) w.go([] { yield(); });
  w.wait();
}
// As many goroutines as there is room for, and all of them gone again.
long fill(const attr& a) {
  chan<void> gate;
  wait_group all;
  long made = 0;
  bool refused = false;
  try {
    for (; made < 1000000; made++) all.go(a, [=] { gate.recv(); });
  } catch (const std::system_error& e) {
    refused = e.code() == std::errc::not_enough_memory;
  }
  REQUIRE(refused);
  gate.close();
  all.wait();
  for (int i = 0; i < 5000 && goroutines() > 1; i++) sleep_for(1ms);
  REQUIRE(goroutines() == 1);
  return made;
}

// mprotect's ENOMEM is what strict overcommit gives, too.
TEST(Limits, Data_GoThrows_NothingIsLost_AndItGoesOn) {
  EXPECT_EXIT(
      {
        setenv("GRT_PROCS", "1", 1); // several put slots by, each for itself
        run([] {
          work();
          limit(RLIMIT_DATA, 768 << 20); // some 2,000 windows
          for (attr a : {attr{}, attr{.stack_max = 64 << 10}, attr{.stack_max = 8 << 20}}) {
            long first = fill(a);
            auto threads_then = debug::read_metrics().threads;
            if (!a.stack_max) REQUIRE(first > 100); // it took all there was
            for (int round = 0; round < 3; round++) {
              long n = fill(a);
              // A hand-off may have made a thread, whose stack of 8 MB is data, too.
              auto made = debug::read_metrics().threads;
              n += static_cast<long>(made - std::min(made, threads_then)) * ((16 << 20) / (64 << 10));
              if (n < first) (dprintf(2, "%ld after %ld\n", n, first), std::_Exit(2));
            }
          }
          work();
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
// Whoever finds no more slots has taken none, also where somebody else took the last one. Which of the two that is
// depends on how many there are, so each is in turn the one that asks more often.
TEST(Limits, Data_AlsoOnThreads_GoThrows_AndItGoesOn) {
  for (std::pair<int, int> asks : {std::pair{1, 1}, {1, 2}, {2, 1}, {1, 3}})
    EXPECT_EXIT(
        {
          setenv("GRT_PROCS", "1", 1);
          chan<std::function<void()>> requests;
          chan<void> done;
          std::thread beside([=] {
            for (auto& f : requests) {
              f();
              done.send();
            }
          });
          run([&] {
            work();
            limit(RLIMIT_DATA, 768 << 20);
            long first = 0;
            for (int round = 0; round < 4; round++) {
              chan<void> gate;
              wait_group all;
              long made = 0;
              auto start = [&] { // false: refused
                try {
                  all.go([=] { gate.recv(); });
                  return made++, true;
                } catch (const std::system_error&) {
                  return false;
                }
              };
              bool refused = false;
              while (!refused && made < 1000000) {
                for (int i = 0; i < asks.first && !refused; i++) refused = !start();
                for (int i = 0; i < asks.second; i++) {
                  requests.send(start); // it may be refused first
                  done.recv();
                }
              }
              REQUIRE(refused);
              gate.close();
              all.wait();
              if (!first) first = made;
              REQUIRE(made <= first + first / 8); // each has a window put by
            }
            work();
          });
          requests.close();
          beside.join();
          std::exit(0);
        },
        ExitedWithCode(0), "");
}
TEST(Limits, AddressSpace) { EXPECT_EXIT((limit(RLIMIT_AS, 1 << 30), run(work), std::exit(0)), ExitedWithCode(0), ""); }
// What processors put by for themselves must not use up a short address space.
TEST(Limits, AddressSpace_ManyProcessors) {
  EXPECT_EXIT(
      {
        limit(RLIMIT_AS, rlim_t{6} << 30);
        set_procs(48);
        run([] {
          for (int round = 0; round < 50; round++) {
            wait_group w;
            for (int i = 0; i < 200; i++) w.go([] { yield(); });
            w.wait();
          }
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(Limits, AddressSpace_NoneAtTheStart_IsAnError_AndTheNextTrySucceeds) {
#if defined(GRT_TEST_EMULATED)
  GTEST_SKIP() << "the emulator needs that address space itself";
#endif
  EXPECT_EXIT(
      {
        limit(RLIMIT_AS, 64 << 20);
        bool refused = false;
        try {
          run(work);
        } catch (const std::system_error& e) {
          refused = true;
          REQUIRE(e.code() == std::errc::not_enough_memory || e.code() == std::errc::resource_unavailable_try_again);
        }
        REQUIRE(refused);
        limit(RLIMIT_AS, hard(RLIMIT_AS));
        run(work);
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(Limits, Descriptors_NoneLeft) {
  if (const char* s = std::getenv("GRT_GUARD"); s && std::string(s) == "poison")
    GTEST_SKIP() << "userfaultfd is a descriptor";
  EXPECT_EXIT(
      {
        bool has = grt::stack::can_guard(grt::stack::guard_kind::madvise) && !std::getenv("GRT_GUARD");
        limit(RLIMIT_NOFILE, 3);
        run([has] {
          work();
          go(attr{.stack_max = 1 << 20}, [] {});
          REQUIRE(!has || std::string(debug::guards()) == "madvise");
          debug::stack_bytes();
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(Limits, Threads_StartAndPinAreRefused_AndSucceedLater) {
  EXPECT_EXIT(
      {
        if (getuid() == 0) REQUIRE(setgid(65534) == 0 && setuid(65534) == 0); // root is under no such limit
        limit(RLIMIT_NPROC, 1);
        for (int i = 0; i < 3; i++) {
          bool refused = false;
          try {
            run(work);
          } catch (const std::system_error& e) {
            refused = e.code() == std::errc::resource_unavailable_try_again;
          }
          REQUIRE(refused);
        }
        limit(RLIMIT_NPROC, hard(RLIMIT_NPROC));
        run([] {
          work();
          limit(RLIMIT_NPROC, 1);
          bool refused = false;
          try {
            this_goroutine::pin();
          } catch (const std::system_error& e) {
            refused = e.code() == std::errc::resource_unavailable_try_again;
          }
          REQUIRE(refused);
          refused = false;
          try {
            go(attr{.pinned = true}, [] {});
          } catch (const std::system_error& e) {
            refused = true;
          }
          REQUIRE(refused);
          refused = false;
          try {
            set_procs(procs() + 3);
          } catch (const std::system_error& e) {
            refused = true;
          }
          REQUIRE(refused);
          work();
          limit(RLIMIT_NPROC, hard(RLIMIT_NPROC));
          set_procs(procs() + 3);
          REQUIRE(this_goroutine::pin());
          work();
          this_goroutine::unpin();
          work();
        });
        std::exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(Limits, MemoryLocked_TheArenaIsNot) {
  EXPECT_EXIT(
      {
        if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
          dprintf(2, "left out: mlockall is not permitted here\n");
          std::exit(0);
        }
        run([] {
          work();
          chan<void> done;
          go(attr{.stack_max = 8 << 20}, [=] { done.send(); });
          done.recv();
        });
        rusage u;
        getrusage(RUSAGE_SELF, &u);
        std::exit(u.ru_maxrss > 400 << 10 ? 5 : 0);
      },
      ExitedWithCode(0), "");
}
} // namespace
#endif
