// Faults that are not the runtime's, and deaths at the same moment; see fatal_test.cpp.
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <grt/grt.hpp>

#include "tests/support/slow.hpp"
#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;
using testing::KilledBySignal;

bool unguarded() { // an overflow runs on into the neighbour's window
  const char* s = std::getenv("GRT_GUARD");
  return s && std::string_view(s) == "canary";
}
[[maybe_unused]] void no_core() {
  rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}
GRT_DETAIL_NOINLINE int recurse(int n) {
  volatile char frame[2048];
  frame[0] = static_cast<char>(n);
  return n < 1000000 ? recurse(n + 1) + frame[0] : 0;
}

// ---- signals that somebody sent

#ifndef GRT_TEST_SANITIZED // they have their own handlers
void start() {
  run([] {});
}

TEST(FatalSignal, Sent_EndsTheProgramAsItWould) {
  for (int sig : {SIGSEGV, SIGBUS}) {
    EXPECT_EXIT((no_core(), start(), kill(getpid(), sig), pause()), KilledBySignal(sig), "^" GRT_END_OF_OUTPUT);
    EXPECT_EXIT((no_core(), start(), raise(sig)), KilledBySignal(sig), "^" GRT_END_OF_OUTPUT);
    EXPECT_EXIT((no_core(), run([=] { raise(sig); })), KilledBySignal(sig), "^" GRT_END_OF_OUTPUT);
    EXPECT_EXIT((no_core(), run([=] { sigqueue(getpid(), sig, sigval{}), sleep_for(1h); })), KilledBySignal(sig),
                "^" GRT_END_OF_OUTPUT);
  }
}
TEST(FatalSignal, SentAndIgnored_StaysIgnored_AndOverflowsAreReported) {
  EXPECT_EXIT((std::signal(SIGSEGV, SIG_IGN), start(), kill(getpid(), SIGSEGV), raise(SIGSEGV), _exit(7)),
              ExitedWithCode(7), "^" GRT_END_OF_OUTPUT);
  if (unguarded()) return;
  EXPECT_EXIT((std::signal(SIGSEGV, SIG_IGN), start(), raise(SIGSEGV), run([] { recurse(0); })),
              KilledBySignal(SIGABRT), "goroutine [0-9]+: stack overflow");
}
TEST(FatalSignal, FaultOfAProgramThatIgnoresIt_Kills) {
  EXPECT_EXIT((no_core(), std::signal(SIGSEGV, SIG_IGN), run([] { *static_cast<volatile int*>(nullptr) = 1; })),
              KilledBySignal(SIGSEGV), "^" GRT_END_OF_OUTPUT);
}

volatile sig_atomic_t handled;
volatile bool segv_blocked, usr1_blocked;
void note(int sig) {
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, nullptr, &now);
  segv_blocked = sigismember(&now, sig);
  usr1_blocked = sigismember(&now, SIGUSR1);
  handled = handled + 1;
}
void note_info(int sig, siginfo_t* info, void* context) {
  if (info->si_signo != sig || !context) _exit(9);
  note(info->si_code == SI_TKILL || info->si_code == SI_USER ? sig : 0);
}
void install(int flags) {
  struct sigaction a {};
  if (flags & SA_SIGINFO) a.sa_sigaction = note_info;
  else a.sa_handler = note;
  a.sa_flags = flags;
  sigaddset(&a.sa_mask, SIGUSR1);
  sigaction(SIGSEGV, &a, nullptr);
}
TEST(FatalSignal, Sent_GoesToAnEarlierHandler_AsTheKernelWouldCallIt) {
  for (int flags : {0, SA_SIGINFO, SA_NODEFER, SA_SIGINFO | SA_NODEFER})
    EXPECT_EXIT(
        {
          install(flags);
          start();
          for (int i = 0; i < 3; i++) raise(SIGSEGV);
          sigset_t now;
          pthread_sigmask(SIG_SETMASK, nullptr, &now);
          bool restored = !sigismember(&now, SIGUSR1) && !sigismember(&now, SIGSEGV);
          _exit(handled == 3 && segv_blocked == !(flags & SA_NODEFER) && usr1_blocked && restored ? 0 : 1);
        },
        ExitedWithCode(0), "^" GRT_END_OF_OUTPUT);
}
TEST(FatalSignal, AHandlerThatIsResetRunsOnce) {
  for (int flags : {0, SA_SIGINFO})
    EXPECT_EXIT((no_core(), install(flags | int(SA_RESETHAND)), start(), raise(SIGSEGV),
                 handled == 1 ? raise(SIGSEGV) : 0, _exit(9)),
                KilledBySignal(SIGSEGV), "^" GRT_END_OF_OUTPUT);
}

// ---- bad pointers

void poke(char* p) { *static_cast<volatile char*>(p) = 1; }
int peek(char* p) { return *static_cast<volatile char*>(p); }
char* guard_of(stack_bounds b) { return static_cast<char*>(b.low) - 1000; }

// f(an address in the guard of a goroutine [victim] that waits), under each kind of guard that there is here.
template <class F> void with_a_victim(const char* kind, F f) {
  no_core();
  setenv("GRT_GUARD", kind, 1);
  static std::atomic<char*> at{nullptr};
  go(attr{.name = "victim"}, [] {
    at = guard_of(this_goroutine::stack());
    chan<int>().recv();
  });
  await_waiting(1, "chan receive");
  f(at.load());
}
bool by_fault(int status) { // or this kernel lacks this kind
  return KilledBySignal(SIGSEGV)(status) || KilledBySignal(SIGBUS)(status) || ExitedWithCode(2)(status);
}
#define EXPECT_INVALID(who, f)                                                                                         \
  for (const char* kind : {"madvise", "poison", "mprotect"})                                                           \
  EXPECT_EXIT(with_a_victim(kind, f), by_fault,                                                                        \
              "^grt: fatal: " who ": invalid access at 0x[0-9a-f]+, which lies in the guard below the stack of "       \
              "goroutine [0-9]+ \\[victim\\]\n    0x[^?]*$|^grt: GRT_GUARD=[a-z]* is not valid")                       \
      << kind

TEST(FatalInvalid, FromAThread_IsNoOverflow) {
  EXPECT_INVALID("thread [0-9]+", [](char* p) { poke(p); });
  EXPECT_INVALID("thread [0-9]+", [](char* p) { peek(p); });
  EXPECT_INVALID("thread [0-9]+", [](char* p) { std::thread([=] { poke(p); }).join(); });
}
TEST(FatalInvalid, FromAnotherGoroutine_IsNoOverflow) {
  EXPECT_INVALID("goroutine [0-9]+ \\[bad\\]", [](char* p) { run(attr{.name = "bad"}, [=] { poke(p); }); });
  EXPECT_INVALID("goroutine [0-9]+ \\[bad\\]",
                 [](char* p) { run(attr{.name = "bad", .pinned = true}, [=] { peek(p); }); });
}
TEST(FatalInvalid, IntoItsOwnGuard_IsNoOverflow) {
  for (const char* kind : {"madvise", "poison", "mprotect"})
    EXPECT_EXIT(
        (no_core(), setenv("GRT_GUARD", kind, 1),
         run(attr{.name = "self"}, [] { poke(guard_of(this_goroutine::stack())); })),
        by_fault,
        "^grt: fatal: goroutine [0-9]+ \\[self\\]: invalid access at 0x[0-9a-f]+, which lies in the guard below "
        "the stack of goroutine [0-9]+ \\[self\\]\n    0x[^?]*  created at [^?]*$|^grt: GRT_GUARD=[a-z]* is not");
}
TEST(FatalInvalid, OfNobodysStack) {
  EXPECT_EXIT(
      (no_core(), setenv("GRT_GUARD", "mprotect", 1), poke(run([] { return guard_of(this_goroutine::stack()); }))),
      by_fault, "thread [0-9]+: invalid access at 0x[0-9a-f]+, which lies in the guard below");
}
TEST(FatalInvalid, AnEarlierHandlerGetsIt) {
  EXPECT_EXIT((std::signal(SIGSEGV, [](int) { _exit(7); }), with_a_victim("mprotect", [](char* p) { poke(p); })),
              ExitedWithCode(7),
              "^grt: warning: thread [0-9]+: invalid access at 0x[0-9a-f]+, which lies in the guard");
}

GRT_DETAIL_NOINLINE void one_frame_of(std::size_t bytes) {
  auto* far = static_cast<volatile char*>(__builtin_alloca(bytes));
  *far = 1;
}
// The stack pointer jumps, and the first access is at the upper end of the frame.
#if defined(__clang__)
#define UNPROBED // it has no such attribute: the frame is probed
#else
#define UNPROBED __attribute__((optimize("no-stack-clash-protection")))
#endif
GRT_DETAIL_NOINLINE UNPROBED void unprobed_frame_of(std::size_t bytes, std::size_t at) {
  auto* far = static_cast<volatile char*>(__builtin_alloca(bytes));
  far[at] = 1;
}
TEST(FatalStack, OverflowByEachKindOfFrame_UnderEachGuard) {
  for (const char* kind : {"madvise", "poison", "mprotect"})
    for (void (*f)() : {+[] { recurse(0); }, +[] { one_frame_of(300 << 10); },
                        +[] { unprobed_frame_of(1 << 20, (1 << 20) - (270 << 10)); }})
      EXPECT_EXIT((setenv("GRT_GUARD", kind, 1), run(attr{.name = "deep"}, f)),
                  [](int status) { return KilledBySignal(SIGABRT)(status) || ExitedWithCode(2)(status); },
                  "^grt: fatal: goroutine [0-9]+ \\[deep\\]: stack overflow: more than 262144 |^grt: GRT_GUARD=");
}

// ---- canaries

// Leaves nothing out, so that the test does not depend on how a compiler lays out frames.
GRT_DETAIL_NOINLINE int down_to(const char* end) {
  volatile char frame[512];
  for (volatile char& c : frame) c = 7;
  return frame < end ? frame[0] : down_to(end) + frame[1];
}
GRT_DETAIL_NOINLINE int sparsely_down_to(const char* end) { // one byte in 2 KB, and what a call saves
  volatile char frame[2048];
  frame[0] = 7;
  return frame < end ? frame[0] : sparsely_down_to(end) + frame[1];
}
// With others, parked and running, on the stacks around.
template <class F> void overflow_among_others(const char* procs, F f) {
  no_core();
  setenv("GRT_GUARD", "canary", 1);
  setenv("GRT_PROCS", procs, 1);
  alarm(60); // a hang is a failure
  run([=] {
    auto others = [](int n) {
      for (int i = 0; i < n; i++) {
        go([] { chan<int>().recv(); });
        go([] {
          for (;;) yield();
        });
        go([] {
          for (;;) select(on_recv(chan<int>()), on_timeout(100us));
        });
      }
    };
    others(5);
    go(attr{.name = "deep"}, [=] {
      yield();
      f(static_cast<const char*>(this_goroutine::stack().low));
    });
    others(5);
    sleep_for(1h);
  });
}
bool dies_of_it(int status) { return WIFSIGNALED(status) && WTERMSIG(status) != SIGALRM; }
constexpr const char* found = "goroutine [0-9]+( \\[deep\\])?: stack overflow found by its canary: more than 262144";
TEST(FatalCanary, OverflowOfAnySize_IsReported) {
  for (const char* procs : {"1", "2", "8"})
    for (std::size_t past : {100u, 4u << 10, 64u << 10, 1u << 20})
      for (bool ends : {false, true})
        EXPECT_EXIT(overflow_among_others(procs,
                                          [=](const char* low) {
                                            down_to(low - past);
                                            if (!ends) sleep_for(1ms);
                                          }),
                    dies_of_it, found)
            << past << " bytes at " << procs << (ends ? ", ends" : ", parks");
}
TEST(FatalCanary, OverflowWithoutEnd_IsReported) {
  for (const char* procs : {"1", "2", "8"})
    EXPECT_EXIT(overflow_among_others(procs, [](const char*) { recurse(0); }), dies_of_it, found) << procs;
}
TEST(FatalCanary, OverflowThatLeavesTheCanaryOut_IsFoundAtTheEnd) {
  EXPECT_EXIT(overflow_among_others("2", [](const char* low) { sparsely_down_to(low - 6000); }), dies_of_it, found);
}
TEST(FatalCanary, OverflowOfAGoroutineThatStaysOn_IsFoundFromOutside) {
  EXPECT_EXIT(overflow_among_others("2",
                                    [](const char* low) {
                                      down_to(low - 1000);
                                      for (volatile bool on = true; on;) {
                                      }
                                    }),
              dies_of_it, found);
}
TEST(FatalCanary, AnotherReportSaysThatItMayBeAConsequence) { // or sysmon was first
  EXPECT_EXIT(overflow_among_others("1",
                                    [](const char* low) {
                                      down_to(low - 1000);
                                      mutex().unlock();
                                    }),
              KilledBySignal(SIGABRT),
              "grt: (fatal|what follows may come from this): goroutine [0-9]+ \\[deep\\]: stack overflow found by its "
              "canary: more than 262144 bytes used\n(grt: fatal: unlock of an unlocked grt::mutex\n" GRT_END_OF_OUTPUT
              "|  created at )");
}
TEST(FatalCanary, DeepButNotTooDeep_IsNone) {
  EXPECT_EXIT((setenv("GRT_GUARD", "canary", 1), run([] {
                 for (int i = 0; i < 100; i++)
                   run([] {
                     down_to(static_cast<const char*>(this_goroutine::stack().low) + 4096);
                     yield();
                   });
                 std::_Exit(7);
               })),
              ExitedWithCode(7), "^grt: warning: no guard pages[^\n]*\n" GRT_END_OF_OUTPUT);
}
#endif

// ---- deaths at the same moment

#define GRT_UNCAUGHT "grt: fatal: goroutine [0-9]+: uncaught int\n(    0x[^\n]*\n)+  created at [^\n]*\n"
#define GRT_OVERFLOW                                                                                                   \
  "grt: fatal: goroutine [0-9]+: stack overflow: more than 262144 bytes used \\(fault at 0x[0-9a-f]+\\)\n"             \
  "  created at [^\n]*\n  raise it with [^\n]*\n(    0x[^\n]*\n)+"
#define GRT_UNLOCK "grt: fatal: unlock of an unlocked grt::mutex\n"

// All begin when the last one is there; more of them than cores, so some come while another one writes its report.
void meet(std::atomic<int>& missing) {
  missing--;
  while (missing > 0) yield();
}
void die(int how) {
  if (how == 0) throw 42;
  if (how == 1) recurse(0);
  mutex().unlock();
}
void die_together(int n, int how) { // 3: each in its own way
  setenv("GRT_PROCS", "8", 1);
  run([=] {
    std::atomic<int> missing(n);
    for (int i = 0; i < n; i++)
      go([&missing, how, i] {
        meet(missing);
        die(how == 3 ? i % 3 : how);
      });
    sleep_for(1h);
  });
}
TEST(FatalTogether, GoroutinesWithUncaughtExceptions_OneWholeReport) {
  for (int round = 0; round < scaled(20); round++)
    for (int n : {2, 5, 16})
      EXPECT_EXIT(die_together(n, 0), KilledBySignal(SIGABRT), "^" GRT_UNCAUGHT GRT_END_OF_OUTPUT);
}
TEST(FatalTogether, GoroutinesWithFatalErrors_OneWholeReport) {
  for (int round = 0; round < scaled(20); round++)
    for (int n : {2, 16}) EXPECT_EXIT(die_together(n, 2), KilledBySignal(SIGABRT), "^" GRT_UNLOCK GRT_END_OF_OUTPUT);
}
#ifndef GRT_TEST_SANITIZED
TEST(FatalTogether, GoroutinesThatOverflow_OneWholeReport) {
  if (unguarded()) GTEST_SKIP() << "no guard";
  for (int round = 0; round < scaled(20); round++)
    for (int n : {2, 16}) {
      EXPECT_EXIT(die_together(n, 1), KilledBySignal(SIGABRT), "^" GRT_OVERFLOW GRT_END_OF_OUTPUT);
      EXPECT_EXIT(die_together(n, 3), KilledBySignal(SIGABRT),
                  "^(" GRT_UNCAUGHT "|" GRT_OVERFLOW "|" GRT_UNLOCK ")" GRT_END_OF_OUTPUT);
    }
}
#endif
TEST(FatalTogether, PlainThreads_OneWholeReport) {
  for (int round = 0; round < scaled(20); round++)
    EXPECT_EXIT(
        {
          std::atomic<int> missing(2);
          auto f = [&] {
            meet(missing);
            mutex().unlock();
          };
          std::thread a(f);
          std::thread b(f);
          a.join();
          b.join();
        },
        KilledBySignal(SIGABRT), "^" GRT_UNLOCK GRT_END_OF_OUTPUT);
}
TEST(FatalTogether, ThreadsAndAGoroutine_OneWholeReport) {
  for (int round = 0; round < scaled(20); round++)
    EXPECT_EXIT(
        {
          static std::atomic<int> missing(3);
          std::thread a([] { meet(missing), throw 1; });
          go([] { meet(missing), throw 42; });
          meet(missing);
          mutex().unlock();
          a.join();
        },
        KilledBySignal(SIGABRT),
        "^(" GRT_UNCAUGHT "|" GRT_UNLOCK "|terminate called after throwing an instance of 'int'\n)" GRT_END_OF_OUTPUT);
}
TEST(FatalTogether, MainThatReturnsMeanwhile_LeavesTheReportWhole) {
  EXPECT_EXIT(
      {
        static std::atomic<bool> writing{false};
        struct slow : std::exception {
          const char* what() const noexcept override {
            writing = true;
            for (int i = 0; i < 50; i++) usleep(1000); // until main is in exit(), most of the time
            return "slow";
          }
        };
        go([] { throw slow(); });
        while (!writing) usleep(100);
        std::exit(0);
      },
      KilledBySignal(SIGABRT), "uncaught .*slow: slow\n(    0x[^\n]*\n)+  created at [^\n]*\n" GRT_END_OF_OUTPUT);
}
TEST(FatalTogether, AReportThatFails_EndsTheProgramAtOnce) {
  struct broken : std::exception {
    const char* what() const noexcept override {
      mutex().unlock();
      return "";
    }
  };
  EXPECT_EXIT(run([] {
                go([] { throw broken(); });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT), "^grt: fatal: goroutine [0-9]+: uncaught [^\n]*" GRT_END_OF_OUTPUT);
}
} // namespace
