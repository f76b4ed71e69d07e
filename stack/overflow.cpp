// stack/overflow.cpp - a fault in a guard becomes a report; every other fault goes where it would have gone.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <utility>

#include <sys/auxv.h>
#include <sys/mman.h>

#include "base/check.hpp"
#include "stack/windows.hpp"

namespace grt::stack {
namespace {
struct sigaction before[2]; // SIGSEGV, SIGBUS
void (*describe_owner)(int, const char*, bool);

void report(const char* fault, const bounds& b) {
  text_out(2).str("grt: fatal: ");
  describe_owner(2, fault, false);
  text_out(2)
      .str("stack overflow: more than ")
      .dec(b.stack_max)
      .str(" bytes used (fault at ")
      .hex(reinterpret_cast<std::uintptr_t>(fault))
      .str(")\n");
  describe_owner(2, fault, true);
  text_out(2)
      .str("  raise it with grt::attr::stack_max or GRT_STACK_MAX=")
      .dec(std::min(b.stack_max * 2, stack_max_most) >> 10)
      .str("K\n");
  write_backtrace(2);
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

void on_fault(int sig, siginfo_t* info, void* context) {
  bounds b;
  const char* at = static_cast<const char*>(info->si_addr);
  if (info->si_code > 0 && find(at, b) && at < b.low) report(at, b);
  const struct sigaction& old = before[sig == SIGBUS];
  if (old.sa_flags & SA_SIGINFO) return old.sa_sigaction(sig, info, context);
  if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) return old.sa_handler(sig);
  std::signal(sig, SIG_DFL); // the fault repeats and the core is right
}
} // namespace

void install_altstack() noexcept {
  stack_t have;
  if (sigaltstack(nullptr, &have) == 0 && !(have.ss_flags & SS_DISABLE)) return;
  std::size_t n = std::max<std::size_t>(64 << 10, 2 * getauxval(51 /* AT_MINSIGSTKSZ */) + (32 << 10));
  void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return; // the overflow kills without a report
  stack_t s{};
  s.ss_sp = p;
  s.ss_size = n;
  sigaltstack(&s, nullptr);
}

void install_overflow_handler(void (*describe)(int fd, const char* at, bool birth)) noexcept {
  if (std::exchange(describe_owner, describe)) return; // a start that failed later on is tried again
  struct sigaction a {};
  a.sa_sigaction = on_fault;
  a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &a, &before[0]);
  sigaction(SIGBUS, &a, &before[1]);
}

} // namespace grt::stack
