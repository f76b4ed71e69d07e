// How grt::exit and the debug settings end a program; see fatal_test.cpp.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <pthread.h>
#include <stdexcept>

#include <grt/grt.hpp>

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;
using testing::KilledBySignal;

TEST(FatalExit, CaughtAndNotRethrown) {
  EXPECT_EXIT(run(attr{.name = "swallower"},
                  [] {
                    try {
                      grt::exit();
                    } catch (...) {
                    }
                  }),
              KilledBySignal(SIGABRT),
              "^grt: fatal: goroutine [0-9]+ \\[swallower\\]: grt::exit\\(\\) was caught and not rethrown\n    "
              "0x.*created at .*exit_test.cpp:[0-9]+\n");
}
TEST(FatalExit, TurnedIntoAnotherException) {
  EXPECT_EXIT(run([] {
                try {
                  throw 1;
                } catch (int) {
                  try {
                    grt::exit();
                  } catch (...) {
                    throw std::runtime_error("other");
                  }
                }
              }),
              KilledBySignal(SIGABRT), "goroutine [0-9]+: grt::exit\\(\\) was caught and not rethrown");
}

GRT_DETAIL_NOINLINE void in_its_way() noexcept { grt::exit(); }
TEST(FatalExit, RanIntoNoexcept) {
  EXPECT_EXIT(run([] { in_its_way(); }), KilledBySignal(SIGABRT),
              "^grt: fatal: goroutine [0-9]+: grt::exit\\(\\) ran into a noexcept function\n    0x.*created at ");
  EXPECT_EXIT(run([]() noexcept { grt::exit(); }), KilledBySignal(SIGABRT), "ran into a noexcept function");
  EXPECT_EXIT(run([] {
                try {
                  throw std::runtime_error("handled");
                } catch (const std::exception&) {
                  in_its_way();
                }
              }),
              KilledBySignal(SIGABRT), "ran into a noexcept function");
  struct exits {
    ~exits() { grt::exit(); }
  };
  EXPECT_EXIT(run([] { exits e; }), KilledBySignal(SIGABRT), "ran into a noexcept function");
}
GRT_DETAIL_NOINLINE void throw_from_a_destructor() { throw std::runtime_error("mine"); }
struct throws {
  ~throws() { throw_from_a_destructor(); }
};
TEST(FatalExit, ADestructorOnTheWay_ThrowsOrExits) {
  struct exits {
    ~exits() { grt::exit(); }
  };
  EXPECT_EXIT(run([] {
                throws t;
                grt::exit();
              }),
              KilledBySignal(SIGABRT), "goroutine [0-9]+: uncaught std::runtime_error: mine");
  EXPECT_EXIT(run([] {
                exits e;
                grt::exit();
              }),
              KilledBySignal(SIGABRT), "grt::exit\\(\\) was called by a destructor that an earlier call of it runs");
}
// call_without_tables(f) calls f(). Nothing tells an unwinder how to get out of it.
#if defined(__x86_64__)
asm(".text\n.globl call_without_tables\n.type call_without_tables, %function\ncall_without_tables:\n"
    "  pushq %rbx\n  call *%rdi\n  popq %rbx\n  ret\n.size call_without_tables, .-call_without_tables");
#else
asm(".text\n.globl call_without_tables\n.type call_without_tables, %function\ncall_without_tables:\n"
    "  stp x29, x30, [sp, #-16]!\n  blr x0\n  ldp x29, x30, [sp], #16\n  ret\n"
    ".size call_without_tables, .-call_without_tables");
#endif
extern "C" void call_without_tables(void (*f)());
#if GRT_DETAIL_ASAN // which speaks first, of a stack that it does not know
#define GRT_EXIT_SAYS_FIRST ""
#else
#define GRT_EXIT_SAYS_FIRST "^"
#endif
TEST(FatalExit, ThroughAFunctionWithoutUnwindTables) {
  EXPECT_EXIT(run([] { call_without_tables([] { grt::exit(); }); }), KilledBySignal(SIGABRT),
              "^grt: fatal: goroutine [0-9]+: grt::exit\\(\\) met a function without unwind tables");
  for (bool pinned : {false, true})
    EXPECT_EXIT(run(attr{.pinned = pinned}, [] { call_without_tables([] { pthread_exit(nullptr); }); }),
                KilledBySignal(SIGABRT),
                GRT_EXIT_SAYS_FIRST
                "grt: fatal: goroutine [0-9]+: pthread_exit\\(\\) met a function without unwind tables.*created at ");
}
TEST(FatalExit, AnExceptionAfterwardsIsReportedAsEver) {
  EXPECT_EXIT(run([] {
                run([] { grt::exit(); });
                go([] { throw 42; });
                sleep_for(1h);
              }),
              KilledBySignal(SIGABRT), "goroutine [0-9]+: uncaught int\n");
}
TEST(FatalExit, ALocalsDestructorThrows) {
  EXPECT_EXIT(run([] {
                local<throws> l;
                (void)*l;
                grt::exit();
              });
              sleep_for(1h), KilledBySignal(SIGABRT), "goroutine [0-9]+: uncaught std::runtime_error: mine\n");
}

TEST(FatalSetting, DebugAndTimes) {
  for (const char* bad : {"migrat", "migrate,", "stall", "stall=", "stall=5", "stall=0ms", "stall=1h", "stall=-1s",
                          "stall=5 s", "stall=5S", "stall=99999999999999s", ",migrate"})
    EXPECT_EXIT((setenv("GRT_DEBUG", bad, 1), run([] {})), ExitedWithCode(2),
                "^grt: GRT_DEBUG=.* is not valid: migrate, stall=TIME with us, ms or s; several with commas between\n$")
        << bad;
  for (const char* good : {"", "migrate", "stall=100ms", "migrate,stall=2s", "stall=5us,migrate"})
    EXPECT_EXIT((setenv("GRT_DEBUG", good, 1), run([] { std::_Exit(0); })), ExitedWithCode(0),
                "^$|^grt: stall: ") // 5us may be over
        << good;
  EXPECT_EXIT((setenv("GRT_NO_SUCH_SETTING", "1", 1), run([] { std::_Exit(0); })), ExitedWithCode(0), "^$");
}
} // namespace
