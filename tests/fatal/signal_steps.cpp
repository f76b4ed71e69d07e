// tests/fatal/signal_steps.cpp - a signal at each instruction of a switch, and of what stands around it.
//
// The parent traces the one thread of its child that runs goroutines, one instruction at a time. Before each
// instruction of grt_switch, grt_start, grt_bind, grt_gmain and park it sends a signal. The handler fills 24 KB of the
// stack that it finds itself on, and stops. In the middle of a switch the scavenger then runs to its end, on another
// thread of the child. The handler goes on, and looks whether anything has changed. Meanwhile goroutines hand values
// to each other, keep patterns on their stacks, throw, select, sleep and end.
//
// signal_steps own|alternate: without and with SA_ONSTACK. Status 77: this machine does not permit ptrace.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <linux/futex.h>
#include <map>
#include <set>
#include <string>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <grt/debug.hpp>
#include <grt/grt.hpp>

#include "sched/core/sched.hpp"

extern "C" void grt_start();

namespace {
using namespace std::chrono_literals;
constexpr int skipped = 77;
constexpr std::size_t instructions = 74; // of grt_switch and grt_start, as arch/x86_64/switch.S has them

// ---- What both processes see.
struct shared_state {
  std::atomic<std::uint32_t> scavenge_asked{0}, scavenge_done{0}, runner{0}, traced{0};
  std::atomic<unsigned> handled{0}, spoilt{0}, elsewhere{0};
} * shared;
bool alternate;

void wait_while(std::atomic<std::uint32_t>& word, std::uint32_t is) {
  while (word.load() == is) syscall(SYS_futex, &word, FUTEX_WAIT, is, nullptr, nullptr, 0);
}
void set(std::atomic<std::uint32_t>& word, std::uint32_t to) {
  word = to;
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// ---- The child.
enum class mark : std::uint64_t { begin = 0x67727400, end, handler_stands, handler_over };
inline void tell(mark m) { asm volatile("int3" : : "a"(m) : "memory"); }

[[gnu::noinline]] void handler(int, siginfo_t*, void*) {
  int e = errno;
  constexpr std::size_t n = (24 << 10) / sizeof(std::uint64_t);
  volatile std::uint64_t room[n];
  std::uint64_t seed = ++shared->handled * 0x9e3779b97f4a7c15u;
  for (std::size_t i = 0; i < n; i += 4) room[i] = seed + i;
  tell(mark::handler_stands);
  for (std::size_t i = 0; i < n; i += 4)
    if (room[i] != seed + i) {
      shared->spoilt++;
      break;
    }
  if (grt::on_signal_stack() != alternate) shared->elsewhere++;
  tell(mark::handler_over);
  errno = e;
}

unsigned wrong; // of the goroutines of one thread
// On the stack of a goroutine, for as long as it runs.
struct pattern {
  volatile std::uint64_t word[32];
  std::uint64_t seed;
  explicit pattern(std::uint64_t s) : seed(s * 0x2545f4914f6cdd1du) {
    for (std::uint64_t i = 0; i < 32; i++) word[i] = seed ^ i;
  }
  void check() const {
    for (std::uint64_t i = 0; i < 32; i++) wrong += word[i] != (seed ^ i);
  }
  ~pattern() { check(); }
};

struct yields_while_unwinding {
  ~yields_while_unwinding() { grt::yield(); }
};

void expect(bool good) { wrong += !good; }

void scenario() {
  grt::wait_group all;
  grt::chan<int> there, back, never;
  all.go([&] { // parks with a lock that the switch releases
    pattern p(1);
    for (int i = 0; i < 3; i++) {
      there.send(i);
      p.check();
      expect(back.recv() == i + 100);
    }
    there.close();
  });
  all.go([&] {
    pattern p(2);
    for (int v : there) back.send(v + 100);
  });
  all.wait();
  for (int k = 0; k < 2; k++)
    all.go([&, k] { // with a record to be committed
      pattern p(3);
      int got = 0;
      grt::yield(); // so that the other one has run when the select parks
      if (!k) back.send(7);
      else grt::select(grt::on_recv(never), grt::on_recv(back, [&](std::optional<int> v) { got = v.value_or(0); }));
      expect(!k || got == 7);
    });
  all.wait();
  for (int k = 0; k < 2; k++)
    all.go([&, k] { // exceptions in flight, handled and not yet caught
      pattern p(4);
      try {
        yields_while_unwinding y;
        throw k;
      } catch (int v) {
        grt::yield();
        expect(v == k && std::uncaught_exceptions() == 0);
      }
      if (k) grt::exit();
    });
  all.wait();
  for (int k = 0; k < 4; k++) all.go([] { pattern p(5); }); // a window goes from one to the next
  all.go([] {
    pattern p(6);
    grt::sleep_for(1ms); // by way of g0
  });
  all.go([] { grt::this_goroutine::stack(); });
  all.wait();
}

[[noreturn]] void child() {
  setenv("GRT_PROCS", "1", 1);
  struct sigaction a {};
  a.sa_sigaction = handler;
  a.sa_flags = SA_SIGINFO | SA_RESTART | (alternate ? SA_ONSTACK : 0);
  sigaction(SIGUSR1, &a, nullptr);
  std::thread([] {
    for (std::uint32_t n = 0;; n++) {
      wait_while(shared->scavenge_asked, n);
      grt::debug::release_memory();
      set(shared->scavenge_done, n + 1);
    }
  }).detach();
  grt::run([] {
    scenario(); // what is done once is done
    set(shared->runner, static_cast<std::uint32_t>(gettid()));
    wait_while(shared->traced, 0);
    tell(mark::begin);
    scenario();
    tell(mark::end);
  });
  _exit(wrong ? 1 : 0);
}

// ---- The parent.
[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "signal_steps: %s (%s)\n", why.c_str(), std::strerror(errno));
  std::exit(1);
}

struct span {
  std::uintptr_t low, high;
  bool holds(std::uintptr_t pc) const { return pc >= low && pc < high; }
};
template <class F> std::uintptr_t address(F* f) { return reinterpret_cast<std::uintptr_t>(f); }

struct tracer {
  pid_t thread;
  user_regs_struct at{};
  std::map<std::uintptr_t, unsigned> visits{};
  unsigned steps = 0, injected = 0, scavenged = 0;

  // Runs until the thread stops with SIGTRAP. true: at an int3.
  bool go_on(int how, int sig) {
    for (;;) {
      int status;
      if (ptrace(static_cast<__ptrace_request>(how), thread, nullptr, sig)) fail("cannot continue the thread");
      if (waitpid(thread, &status, __WALL) != thread) fail("waitpid");
      if (!WIFSTOPPED(status)) fail("the thread ended with status " + std::to_string(status));
      sig = WSTOPSIG(status);
      if (status >> 16 || sig == SIGTRAP) {
        if (ptrace(PTRACE_GETREGS, thread, nullptr, &at)) fail("PTRACE_GETREGS");
        siginfo_t info{};
        ptrace(PTRACE_GETSIGINFO, thread, nullptr, &info);
        return !(status >> 16) && info.si_code == SI_KERNEL;
      }
      if (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGABRT)
        fail("the thread got signal " + std::to_string(sig));
    }
  }
  void go_to(mark m) {
    if (!go_on(PTRACE_CONT, 0) || at.rax != static_cast<std::uint64_t>(m)) fail("not at the next mark");
  }

  // Before the instruction at which the thread stands.
  void send(bool in_switch) {
    const user_regs_struct before = at;
    injected++;
    go_on(PTRACE_SINGLESTEP, SIGUSR1); // the handler's first instruction
    go_to(mark::handler_stands);
    if (in_switch && visits[before.rip]++ < 12) {
      std::uint32_t n = shared->scavenge_asked;
      set(shared->scavenge_asked, n + 1);
      wait_while(shared->scavenge_done, n);
      scavenged++;
    }
    go_to(mark::handler_over);
    for (int i = 0; at.rip != before.rip || at.rsp != before.rsp; i++) {
      if (i > 1000) fail("the handler does not return to where it was called");
      go_on(PTRACE_SINGLESTEP, 0);
    }
  }
};

// It gives itself that name when it begins to run.
pid_t await_sysmon(pid_t child) {
  const std::string tasks = "/proc/" + std::to_string(child) + "/task";
  for (;; usleep(100))
    for (const auto& entry : std::filesystem::directory_iterator(tasks)) {
      std::string name;
      std::getline(std::ifstream(entry.path() / "comm"), name);
      if (name == "grt-sysmon") return std::stoi(entry.path().filename());
    }
}

// Stops it where it sleeps and holds no lock: it would take the processor from a thread that makes no progress.
void stop_sysmon(pid_t child) {
  pid_t task = await_sysmon(child);
  if (ptrace(PTRACE_SEIZE, task, nullptr, nullptr)) fail("PTRACE_SEIZE of sysmon");
  for (;; usleep(100)) {
    int status;
    user_regs_struct r{};
    if (ptrace(PTRACE_INTERRUPT, task, nullptr, nullptr) || waitpid(task, &status, __WALL) != task ||
        ptrace(PTRACE_GETREGS, task, nullptr, &r))
      fail("sysmon does not stop");
    if (r.orig_rax == SYS_restart_syscall || (r.orig_rax == SYS_futex && r.rsi == FUTEX_WAIT_PRIVATE)) return;
    ptrace(PTRACE_CONT, task, nullptr, nullptr);
  }
}

int trace(pid_t child) {
  wait_while(shared->runner, 0);
  tracer t{.thread = static_cast<pid_t>(shared->runner.load())};
  if (ptrace(PTRACE_SEIZE, t.thread, nullptr, nullptr)) {
    std::printf("signal_steps: skipped, ptrace is not permitted here: %s\n", std::strerror(errno));
    return skipped;
  }
  stop_sysmon(child);
  int status;
  if (ptrace(PTRACE_INTERRUPT, t.thread, nullptr, nullptr) || waitpid(t.thread, &status, __WALL) != t.thread)
    fail("the thread does not stop");
  set(shared->traced, 1);
  t.go_to(mark::begin);

  const span of_switch{address(grt_switch), address(grt_switch) + 512};
  const span first{address(grt_start), address(grt_start) + 64};
  const span around[] = {{address(grt_bind), address(grt_bind) + 128},
                         {address(grt_gmain), address(grt_gmain) + 2048},
                         {address(grt::park), address(grt::park) + 1024}};
  std::set<std::uintptr_t> seen;
  for (bool over = false; !over; t.steps++) {
    bool in_switch = of_switch.holds(t.at.rip) || first.holds(t.at.rip), wanted = in_switch;
    for (const span& s : around) wanted = wanted || s.holds(t.at.rip);
    if (in_switch) seen.insert(t.at.rip);
    if (wanted) t.send(in_switch);
    over = t.go_on(PTRACE_SINGLESTEP, 0) && t.at.rax == static_cast<std::uint64_t>(mark::end);
  }
  ptrace(PTRACE_DETACH, t.thread, nullptr, nullptr); // sysmon stays stopped until the process exits
  for (pid_t ended; (ended = waitpid(-1, &status, __WALL)) != child;)
    if (ended < 0) fail("waitpid of the child");
  std::printf("%u steps, %u signals at %zu instructions of the switch, %u passes of the scavenger; handled %u, spoilt "
              "%u, on another stack %u\n",
              t.steps, t.injected, seen.size(), t.scavenged, shared->handled.load(), shared->spoilt.load(),
              shared->elsewhere.load());
  bool all = seen.size() == instructions && shared->handled == t.injected;
  bool good = all && !shared->spoilt && !shared->elsewhere && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!good) std::fprintf(stderr, "signal_steps: wrong; the child's status is %d\n", status);
  return good ? 0 : 1;
}
} // namespace

int main(int argc, char** argv) {
  alternate = argc > 1 && !std::strcmp(argv[1], "alternate");
  void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) fail("mmap");
  shared = new (p) shared_state;
  pid_t child_pid = fork();
  if (child_pid == 0) child();
  int result = trace(child_pid);
  kill(child_pid, SIGKILL);
  return result;
}
