// The priority of a thread whose goroutine computes without a processor: a process of its own for each policy.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/child.hpp"
#include "tests/support/compute.hpp"
#include "tests/support/fixture.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;

int niceness() { return getpriority(PRIO_PROCESS, static_cast<id_t>(gettid())); }
const int usual = niceness(), low = std::min(usual + 10, 19);

void expect_ordinary(const char* what) {
  expect(niceness() == usual, what);
  expect(sched_getscheduler(0) == SCHED_OTHER, what);
}

void give_up_privilege() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_NICE, &none);
  if (getuid() == 0 && setuid(65534)) _exit(9);
}

// While it lives, somebody wants a processor: else nobody loses one.
class contender {
public:
  contender() {
    w_.go([this] {
      while (!stop_) yield();
    });
  }
  ~contender() {
    stop_ = true;
    w_.wait();
  }
  contender(const contender&) = delete;
  contender& operator=(const contender&) = delete;

private:
  std::atomic<bool> stop_{false};
  wait_group w_;
};

void compute_until_lowered() {
  while (niceness() != low) asm volatile("");
}

// One processor. Beside it there is an ordinary hog: when that one has been lowered for the second time, sysmon has
// looked at both, and passed the other one over.
template <class F> void until_another_was_lowered(F hog) {
  contender c;
  wait_group w;
  std::atomic<int> lowered{0};
  w.go([&] { hog([&] { return lowered == 2; }); });
  w.go([&] {
    for (int i = 0; i < 2; i++) {
      compute_until_lowered();
      lowered++;
      yield(); // comes back with a processor
      expect_ordinary("with a processor again");
    }
  });
  w.wait();
}

TEST(Hogs, ComputesWithoutAProcessor_NicePlus10_AndOrdinaryAfterwards) {
  for (bool privileged : {true, false})
    EXPECT_EXIT(
        {
          if (!privileged) give_up_privilege();
          set_procs(1);
          run([] {
            contender c;
            wait_group w;
            for (int i = 0; i < 4; i++)
              w.go([] {
                compute_until_lowered();
                expect(sched_getscheduler(0) == SCHED_OTHER, "lowered");
                yield();
                expect_ordinary("after a yield");
                compute_until_lowered();
                sleep_for(1ms);
                expect_ordinary("after a sleep");
              });
            w.wait();
            for (int i = 0; i < 100; i++) w.go([] { expect_ordinary("a new goroutine"); });
            w.wait();
          });
          _exit(0);
        },
        ExitedWithCode(0), "");
}

TEST(Hogs, PinnedOrAnnounced_KeepTheirs) {
  EXPECT_EXIT(
      {
        give_up_privilege();
        set_procs(1);
        run([] {
          until_another_was_lowered([](auto over) {
            this_goroutine::pin();
            while (!over()) expect_ordinary("a pinned goroutine that computes");
            yield();
            expect_ordinary("a pinned goroutine that computed");
            this_goroutine::unpin();
          });
          until_another_was_lowered([](auto over) {
            blocking([&] {
              while (!over()) expect_ordinary("in blocking()");
            });
            expect_ordinary("after blocking()");
          });
        });
        _exit(0);
      },
      ExitedWithCode(0), "");
}

void expect_equal() {
  contender c;
  std::atomic<bool> others{false};
  wait_group w;
  w.go([&] { others = true; });
  while (!others) expect_ordinary("equal"); // only ends if another thread gets the processor
  compute(100ms);
  expect_ordinary("equal, and much computed");
  _exit(0);
}
TEST(Hogs, Equal_KeepTheirs) {
  EXPECT_EXIT((setenv("GRT_HOGS", "equal", 1), set_procs(1), run(expect_equal)), ExitedWithCode(0), "");
  EXPECT_EXIT(run(expect_equal, options{.procs = 1, .hogs = hog_policy::equal}), ExitedWithCode(0), "");
}
TEST(Hogs, EnvironmentWins) {
  EXPECT_EXIT(
      {
        setenv("GRT_HOGS", "nice", 1);
        run(
            [] {
              contender c;
              compute_until_lowered();
            },
            options{.procs = 1, .hogs = hog_policy::equal});
        _exit(0);
      },
      ExitedWithCode(0), "");
  EXPECT_EXIT((setenv("GRT_HOGS", "idle", 1), run([] {})), ExitedWithCode(2),
              "^grt: GRT_HOGS=idle is not valid: nice or equal\n");
}
} // namespace
