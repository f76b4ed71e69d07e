// Signals, where it takes a process of its own: what the program had set before the runtime started, and handlers that
// do what they must not.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <pthread.h>
#include <spawn.h>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

#include "base/spin.hpp"
#include "sched/core/foreign.hpp"
#include "tests/support/child.hpp"
#include "tests/support/fixture.hpp"
#include "tests/support/slow.hpp"
#include "tests/support/threads.hpp"
#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;
using testing::KilledBySignal;

void no_core() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

// ---- What threads inherit.
constexpr int slack_ns = 77'777;
std::uint64_t program_mask;

void set_mask_and_slack() {
  sigset_t two;
  sigemptyset(&two);
  sigaddset(&two, SIGUSR2);
  sigaddset(&two, SIGRTMIN + 3);
  pthread_sigmask(SIG_SETMASK, &two, nullptr);
  prctl(PR_SET_TIMERSLACK, slack_ns);
  program_mask = own_mask();
}

void expect_inherited(const char* where) {
  expect(own_mask() == program_mask, where);
  expect(prctl(PR_GET_TIMERSLACK) == slack_ns, where);
  prctl(PR_SET_TIMERSLACK, 0); // the value that it falls back to
  expect(prctl(PR_GET_TIMERSLACK) == slack_ns, where);
}

// f on another thread than the caller's, which a hand-off has made.
template <class F> void beside_this_thread(bool announced, F f) {
  std::atomic<bool> over{false};
  wait_group w;
  w.go([&] {
    f();
    over = true;
  });
  auto until_over = [&] {
    while (!over) asm volatile("");
  };
  announced ? blocking(until_over) : until_over();
  w.wait();
}

TEST(SignalsProcess, AllThreadsInheritMaskAndSlackOfTheOneThatStarted) {
  EXPECT_EXIT(
      {
        set_mask_and_slack();
        set_procs(1);
        run([] {
          expect_inherited("a goroutine");
          beside_this_thread(true, [] { expect_inherited("a thread made by blocking()"); });
          beside_this_thread(false, [] { expect_inherited("a thread made by sysmon"); });
          for (int i = 0; i < 3; i++) {
            sleep_for(100us);
            expect_inherited("a goroutine that has slept");
          }
          sigset_t all, was; // as a careless goroutine may leave it
          sigfillset(&all);
          this_goroutine::pin();
          pthread_sigmask(SIG_SETMASK, &all, &was);
          wait_group w;
          w.go(attr{.pinned = true}, [] { expect_inherited("a pinned goroutine of a thread that blocks all"); });
          w.wait();
          pthread_sigmask(SIG_SETMASK, &was, nullptr);
          this_goroutine::unpin();
        });
        std::thread([] {
          sigset_t all;
          sigfillset(&all);
          pthread_sigmask(SIG_SETMASK, &all, nullptr);
          prctl(PR_SET_TIMERSLACK, 5);
          set_procs(3);
          expect(prctl(PR_GET_TIMERSLACK) == 5, "the slack of the caller of set_procs");
          run([] { expect_inherited("a processor made by a thread that blocks all"); });
        }).join();
        await_masks("grt", program_mask);
        await_masks("grt-sysmon", all_but_faults());
        _exit(0);
      },
      ExitedWithCode(0), "^$");
}

#ifndef GRT_TEST_EMULATED // qemu-user runs an exec'd program of another machine only where binfmt_misc knows it
// Of cat, which is about itself. A shell would have changed its mask.
std::string read_by_a_child(const char* path) {
  int ends[2];
  posix_spawn_file_actions_t actions;
  const char* argv[] = {"cat", path, nullptr};
  pid_t child;
  expect(pipe(ends) == 0, "pipe");
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  expect(posix_spawnp(&child, "cat", &actions, nullptr, const_cast<char**>(argv), environ) == 0, "posix_spawn");
  close(ends[1]);
  std::string all;
  char some[4096];
  for (ssize_t n; (n = read(ends[0], some, sizeof some)) > 0;) all.append(some, static_cast<std::size_t>(n));
  close(ends[0]);
  waitpid(child, nullptr, 0);
  posix_spawn_file_actions_destroy(&actions);
  return all;
}

TEST(SignalsProcess, ChildrenInheritThemToo) {
  EXPECT_EXIT(
      {
        set_mask_and_slack();
        run([] {
          for (int i = 0; i < 3; i++) {
            std::string status = read_by_a_child("/proc/self/status");
            std::string mask = status.substr(status.find("SigBlk:") + 7);
            expect(std::stoull(mask, nullptr, 16) == program_mask, "the mask of a child");
            expect(read_by_a_child("/proc/self/timerslack_ns") == std::to_string(slack_ns) + "\n",
                   "the timer slack of a child");
            sleep_for(1ms);
          }
        });
        pid_t forked = fork(); // of main
        if (!forked) _exit(own_mask() == program_mask && prctl(PR_GET_TIMERSLACK) == slack_ns ? 0 : 1);
        int status = 1;
        waitpid(forked, &status, 0);
        expect(status == 0, "a forked child of main");
        _exit(0);
      },
      ExitedWithCode(0), "^$");
}
#endif

// ---- A signal for the process finds a thread.
char state_of_main() {
  std::ifstream stat("/proc/self/task/" + std::to_string(getpid()) + "/stat");
  std::string line;
  std::getline(stat, line);
  std::size_t end = line.rfind(')');
  return end == line.npos ? '?' : line[end + 2];
}

TEST(SignalsProcess, Sigterm_EndsAProgramThatMainHasLeft) {
  EXPECT_EXIT(
      {
        no_core();
        go([] {
          while (state_of_main() != 'Z') yield();
          kill(getpid(), SIGTERM);
          sleep_for(1h);
        });
        syscall(SYS_exit, 0); // as pthread_exit, but unwinds no frames of the harness
      },
      KilledBySignal(SIGTERM), "^$");
}

// ---- Handlers that wait.
chan<int>* nobody_sends;
void waits(int) { nobody_sends->recv(); }
void handle(void (*f)(int), int flags) {
  no_core();
  nobody_sends = new chan<int>;
  struct sigaction a {};
  a.sa_handler = f;
  a.sa_flags = flags;
  sigaction(SIGUSR1, &a, nullptr);
}
constexpr const char* refusal = "grt: fatal: a signal handler waits in grt; handlers must not call grt\n";

TEST(SignalsProcess, AHandlerOnTheAlternateStackThatWaits_EndsTheProgram) {
  EXPECT_EXIT((handle(waits, SA_ONSTACK), run([] { std::raise(SIGUSR1); })), KilledBySignal(SIGABRT), refusal);
  EXPECT_EXIT((handle([](int) { sleep_for(1ms); }, SA_ONSTACK), run([] { std::raise(SIGUSR1); })),
              KilledBySignal(SIGABRT), refusal);
  EXPECT_EXIT((handle([](int) { select(on_recv(*nobody_sends)); }, SA_ONSTACK), run([] {
                 this_goroutine::pin();
                 std::raise(SIGUSR1);
               })),
              KilledBySignal(SIGABRT), refusal);
}

// The scheduler's own stack, and its bracket, which it never leaves.
TEST(SignalsProcess, AHandlerThatInterruptsTheSchedulerAndWaits_EndsTheProgram) {
  for (int flags : {0, SA_ONSTACK})
    EXPECT_EXIT(
        {
          handle(waits, flags);
          set_procs(1);
          std::atomic<int> tid{0};
          go([&] {
            tid = static_cast<int>(gettid());
            nobody_sends->recv();
          });
          await_waiting(1, "chan receive");
          syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1);
          std::this_thread::sleep_for(1h);
        },
        KilledBySignal(SIGABRT), refusal);
}

TEST(SignalsProcess, AHandlerThatInterruptsAWaitingThreadAndWaits_EndsTheProgram) {
  EXPECT_EXIT(
      {
        handle(waits, 0);
        std::thread sends([main = pthread_self()] {
          while (!foreign_blocked()) std::this_thread::sleep_for(1ms);
          pthread_kill(main, SIGUSR1);
        });
        nobody_sends->recv();
      },
      KilledBySignal(SIGABRT), refusal);
}

spin_lock held;
TEST(SignalsProcess, AHandlerThatWaitsForTheLockOfWhatItInterrupts_EndsTheProgram) {
  EXPECT_EXIT((handle([](int) { held.lock(); }, SA_ONSTACK), run([] {
                 held.lock();
                 std::raise(SIGUSR1);
               })),
              KilledBySignal(SIGABRT), refusal);
}

// A goroutine may stand on a stack that the program has made.
#ifndef GRT_TEST_SANITIZED // which do not know such stacks
TEST(SignalsProcess, AStackOfTheProgramsIsNoSignalStack) {
  EXPECT_EXIT(
      {
        run([] {
          static ucontext_t own, other;
          static chan<int> c;
          getcontext(&other);
          std::vector<char> room(256 << 10);
          other.uc_stack.ss_sp = room.data();
          other.uc_stack.ss_size = room.size();
          other.uc_link = &own;
          makecontext(
              &other, [] { expect(c.recv() == 1, "a value"); }, 0);
          this_goroutine::pin();
          go([] { c.send(1); });
          swapcontext(&own, &other);
        });
        _exit(0);
      },
      ExitedWithCode(0), "^$");
}
#endif
} // namespace
