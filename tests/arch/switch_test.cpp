// The switch in assembly terms: what survives it, what a new stack looks like, and unwinding from each of its
// instructions.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <exception>
#include <vector>

#include <ucontext.h>
#include <unwind.h>

extern "C" int grt_test_registers(void (*f)(void*), void* arg, std::uint64_t seed);
extern "C" void grt_switch(void*, void*, void*, std::uintptr_t);
extern "C" void grt_start();
namespace grt {
struct M;
void mloop(M* m) noexcept;
} // namespace grt

namespace {
using namespace grt;
using Switch = GrtTest;

TEST_F(Switch, EveryCalleeSavedRegisterSurvives_YieldsParksAndMigration) {
  run([] {
    wait_group w;
    chan<int> c;
    for (std::uint64_t k = 0; k < 8; k++) {
      w.go([=] {
        for (int i = 0; i < scaled(2000); i++) {
          auto f = [](void* arg) {
            auto& c = *static_cast<chan<int>*>(arg);
            yield();
            int v;
            if (!c.try_send(1)) (void)c.try_recv(v);
          };
          ASSERT_EQ(grt_test_registers(f, const_cast<chan<int>*>(&c), (k << 40) + static_cast<std::uint64_t>(i)), 0);
        }
      });
    }
    w.go([=] {
      for (int i = 0; i < scaled(2000); i++) {
        int v;
        (void)c.try_recv(v);
        ASSERT_EQ(grt_test_registers([](void*) { sleep_for(std::chrono::microseconds(1)); }, nullptr, 77), 0);
      }
    });
    w.wait();
  });
}

TEST_F(Switch, ANewStackIsAligned_AndEmptyAbove) {
  run([] {
    wait_group w;
    for (int k = 0; k < 40; k++)
      w.go([] {
        alignas(16) volatile char local[16];
        local[0] = 1;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) % 16, 0u);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(local) % 16, 0u);
        auto b = this_goroutine::stack();
        EXPECT_LT(static_cast<const volatile void*>(local), b.high);
        EXPECT_LT(static_cast<char*>(b.high) - static_cast<char*>(__builtin_frame_address(0)),
                  2048); // entry frames and colour
#ifndef GRT_TEST_SANITIZED
        EXPECT_GT(static_cast<const volatile void*>(local), b.low);
#endif
      });
    w.wait();
  });
}

int frames_here() {
  int n = 0;
  _Unwind_Backtrace(
      [](_Unwind_Context* c, void* arg) {
        if (_Unwind_GetIP(c)) ++*static_cast<int*>(arg);
        return *static_cast<int*>(arg) > 200 ? _URC_END_OF_STACK : _URC_NO_REASON;
      },
      &n);
  return n;
}

TEST_F(Switch, UnwindingEndsAtTheFirstFrame) {
  run([] { EXPECT_LT(frames_here(), 20); });
}

TEST_F(Switch, ExceptionsInFlightAndCaughtSurviveSwitches) {
  run([] {
    wait_group w;
    for (int k = 0; k < 16; k++)
      w.go([k] {
        struct yields_while_unwinding {
          int expected;
          ~yields_while_unwinding() {
            for (int i = 0; i < 5; i++) yield();
            EXPECT_EQ(std::uncaught_exceptions(), expected);
          }
        };
        for (int i = 0; i < scaled(100); i++) {
          EXPECT_EQ(std::uncaught_exceptions(), 0);
          try {
            yields_while_unwinding y{1};
            throw k;
          } catch (int& v) {
            yield();
            try {
              yields_while_unwinding y{1};
              throw k + 1000;
            } catch (int& inner) {
              yield();
              EXPECT_EQ(inner, k + 1000);
            }
            EXPECT_EQ(v, k);
            try {
              yield();
              throw;
            } catch (int again) {
              EXPECT_EQ(again, k);
            }
          }
          EXPECT_EQ(std::uncaught_exceptions(), 0);
        }
      });
    w.wait();
  });
}

// gcc builds only: the assembly is the same for every compiler, and clang 14 gives the frames below g0's noreturn loop
// no end to reach.
#if defined(__x86_64__) && !defined(GRT_TEST_SANITIZED) && !defined(__clang__)
// Single-steps through parks with the trap flag, which stays with the thread; at every instruction of the switch the
// unwinder must reach the first frame: grt_start, or the scheduler's loop for the M's own stack, where every 64th pick
// goes. A hand-off takes the goroutine to another thread: then that one steps, too, and each stops by itself.
struct stepping {
  std::uintptr_t low, high;
  std::vector<std::uintptr_t> seen;
  int bad = 0;
  volatile bool over = false;
} steps;

GRT_DETAIL_NOINLINE void marked_yield() {
  yield();
  asm volatile("" ::: "memory"); // no tail call
}

struct walk {
  int frames = 0;
  bool end = false;
};

void on_trap(int, siginfo_t*, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (steps.over) registers[REG_EFL] &= ~0x100LL;
  auto pc = static_cast<std::uintptr_t>(registers[REG_RIP]);
  if (pc < steps.low || pc >= steps.high) return;
  walk w;
  _Unwind_Backtrace(
      [](_Unwind_Context* c, void* arg) {
        auto* w = static_cast<walk*>(arg);
        std::uintptr_t ip = _Unwind_GetIP(c);
        if (!ip) return _URC_END_OF_STACK;
        auto g0 = reinterpret_cast<std::uintptr_t>(&mloop), first = reinterpret_cast<std::uintptr_t>(&grt_start);
        if ((ip >= first && ip < first + 64) || (ip >= g0 && ip < g0 + 1024)) w->end = true;
        return ++w->frames < 60 ? _URC_NO_REASON : _URC_END_OF_STACK;
      },
      &w);
  if (!w.end || w.frames >= 60) {
    steps.bad++;
    if (steps.bad < 5) std::fprintf(stderr, "at switch+0x%lx: %d frames, end %d\n", pc - steps.low, w.frames, w.end);
  }
  if (steps.seen.size() < 4000) steps.seen.push_back(pc - steps.low);
}

TEST_F(Switch, UnwindsFromEachInstruction) {
  if (procs() > 2) GTEST_SKIP() << "the trap flag is one thread's: at one P and two is enough";
  unsigned before = set_procs(1);
  steps = {};
  steps.low = reinterpret_cast<std::uintptr_t>(&grt_switch);
  steps.high = reinterpret_cast<std::uintptr_t>(&grt_start); // the next function of the file
  steps.seen.reserve(4096);
  struct sigaction a {};
  a.sa_sigaction = on_trap;
  a.sa_flags = SA_SIGINFO | SA_ONSTACK;
  run([&] {
    wait_group w;
    for (int k = 0; k < 2; k++)
      w.go([] {
        for (int i = 0; i < 8; i++) marked_yield();
      });
    w.go([&] {
      _Unwind_Backtrace([](_Unwind_Context*, void*) { return _URC_NO_REASON; },
                        nullptr);      // its tables are loaded before the first trap
      sigaction(SIGTRAP, &a, nullptr); // for good: a thread that still steps may sleep now
      for (int i = 0; i < 4; i++) {
        asm volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
        marked_yield();
      }
      steps.over = true;
    });
    w.wait();
  });
  set_procs(before);
  EXPECT_GT(steps.seen.size(), 40u);
  EXPECT_EQ(steps.bad, 0);
}
#endif
} // namespace
