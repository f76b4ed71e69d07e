// stack/overflow.cpp - the handler for faults: which faults are stack overflows, and what happens to the others.
//
// When is a fault in a guard a stack overflow? The address alone does not tell, because any bad pointer may point
// there. The stack pointer (sp) does. Code reaches the guard of its own window in one of three ways:
//   - in small steps below sp: a push, a call, the red zone of x86-64, the pre-indexed store of AArch64;
//   - at sp: the probes of -fstack-clash-protection, one per page;
//   - in a frame for which sp has already been lowered: alloca, a large array, frames without probes.
// In all three cases the access is not far below sp; it may be far above it. Hence these rules, for the window of the
// goroutine that the thread runs:
//
//   where sp is                     the fault is
//   1. above the guard              an overflow if the access is below the usable part and at most two pages below sp:
//                                   one page for the step, and one because a kernel may report the page instead of the
//                                   address
//   2. in the guard, or up to       an overflow if the access is in this range as well, because the frames went down
//      8 MB below it                there; a stack that a goroutine keeps elsewhere, such as a coroutine's, is further
//                                   away
//   3. as in 2, but the window      an overflow wherever the access is, because frames and neighbours below are
//      has no guard                 destroyed
//   4. anywhere else                a bad pointer, even if it points into the goroutine's own guard
//
// A switch moves sp first and sets M::g some instructions later. A signal handler that runs in between is on the window
// of another goroutine than the one in M::g. is_overflow_of is the rule for this case.
//
// Some signals are no faults: those that were sent (kill, raise, sigqueue: si_code <= 0), and the two reports of
// hardware errors that belong to no instruction. They keep the effect that they would have without grt: the earlier
// handler runs, or nothing happens because the program ignores them, or the process ends. A fault gets the default
// effect by itself, because the instruction is executed again. A signal that was sent does not come again. So it is
// queued again to this thread with all its information, and blocked until the handler has returned. It then ends the
// process with the registers of the code that it interrupted.
#include "stack/overflow.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <utility>

#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

namespace grt::stack {
namespace {
constexpr std::size_t page = 4096, step_most = 2 * page, frame_most = stack_max_most;
constexpr int memory_tag_async = 8, memory_error_async = 5; // SEGV_MTEAERR, BUS_MCEERR_AO; not in older headers

constexpr int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
struct sigaction before[4];
std::atomic<bool> spent[4]; // the handler in `before` was to run only once (SA_RESETHAND), and has run
void (*judge_fault)(const fault&) noexcept;

bool is_function(const struct sigaction& a) noexcept {
  return (a.sa_flags & SA_SIGINFO) || (a.sa_handler != SIG_DFL && a.sa_handler != SIG_IGN);
}

bool was_sent(int sig, const siginfo_t* info) noexcept {
  return info->si_code <= 0 || (sig == SIGBUS && info->si_code == memory_error_async) ||
         (sig == SIGSEGV && info->si_code == memory_tag_async);
}

std::uintptr_t stack_pointer(const ucontext_t* c) noexcept {
#if defined(__x86_64__)
  return static_cast<std::uintptr_t>(c->uc_mcontext.gregs[15]); // REG_RSP
#else
  return c->uc_mcontext.sp;
#endif
}

// Calls the handler as the kernel would have called it, but on this stack.
void call(const struct sigaction& handler, int sig, siginfo_t* info, void* context) {
  sigset_t mask = handler.sa_mask;
  if (!(handler.sa_flags & SA_NODEFER)) sigaddset(&mask, sig);
  pthread_sigmask(SIG_BLOCK, &mask, nullptr); // the return from on_fault restores the mask
  if (handler.sa_flags & SA_SIGINFO) handler.sa_sigaction(sig, info, context);
  else handler.sa_handler(sig);
}

void default_effect(int sig, siginfo_t* info, ucontext_t* context, bool sent) noexcept {
  struct sigaction a {};
  a.sa_handler = SIG_DFL;
  sigaction(sig, &a, nullptr);
  if (!sent) return;
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, sig);
  pthread_sigmask(SIG_BLOCK, &mask, nullptr);
  sigdelset(&context->uc_sigmask, sig);
  auto thread = static_cast<pid_t>(syscall(SYS_gettid));
  if (syscall(SYS_rt_tgsigqueueinfo, getpid(), thread, sig, info)) syscall(SYS_tgkill, getpid(), thread, sig);
}

void on_fault(int sig, siginfo_t* info, void* context) {
  int error = errno;
  auto which = std::find(signals, signals + 3, sig) - signals;
  const struct sigaction& old = before[which];
  bool sent = was_sent(sig, info), handled = is_function(old) && !spent[which].load(std::memory_order_relaxed);
  auto* c = static_cast<ucontext_t*>(context);
  if (!sent) judge_fault({reinterpret_cast<std::uintptr_t>(info->si_addr), stack_pointer(c), handled});
  errno = error;
  if (handled && (old.sa_flags & SA_RESETHAND)) handled = !spent[which].exchange(true, std::memory_order_relaxed);
  if (handled) call(old, sig, info, context);
  else if (!sent || is_function(old) || old.sa_handler != SIG_IGN) default_effect(sig, info, c, sent);
  errno = error;
}

void install(int which) noexcept {
  int sig = signals[which];
  struct sigaction& old = before[which];
  sigaction(sig, nullptr, &old);
  struct sigaction a {};
  a.sa_sigaction = on_fault;
  a.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER; // NODEFER: a fault within a report must not end in silence
  if (!is_function(old) || (old.sa_flags & SA_RESTART)) a.sa_flags |= SA_RESTART;
  sigaction(sig, &a, nullptr);
}

thread_local void* altstack; // null: this thread has none, or the program has installed it
thread_local std::size_t altstack_bytes;
} // namespace

bool is_overflow(const bounds& own, bool unguarded, std::uintptr_t at, std::uintptr_t sp) noexcept {
  auto guard = reinterpret_cast<std::uintptr_t>(own.guard), low = guard + guard_bytes,
       high = reinterpret_cast<std::uintptr_t>(own.high);
  if (sp >= low) return sp < high && at < low && sp - at <= step_most;
  return sp + frame_most >= guard && (unguarded || (at < low && at + frame_most + step_most >= guard));
}

bool is_overflow_of(const bounds& hit, std::uintptr_t at, std::uintptr_t sp) noexcept {
  auto guard = reinterpret_cast<std::uintptr_t>(hit.guard), low = guard + guard_bytes;
  return at >= guard && at < low && sp >= guard && (sp < at || sp - at <= step_most);
}

void install_altstack() noexcept {
  stack_t have;
  if (sigaltstack(nullptr, &have) == 0 && !(have.ss_flags & SS_DISABLE)) return;
  std::size_t n = std::max<std::size_t>(64 << 10, 2 * getauxval(51 /* AT_MINSIGSTKSZ */) + (32 << 10));
  n = (n + page - 1) / page * page + page;
  void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return; // an overflow then ends the process without a report
  mprotect(p, page, PROT_NONE);
  stack_t s{};
  s.ss_sp = static_cast<char*>(p) + page;
  s.ss_size = n - page;
  if (sigaltstack(&s, nullptr)) {
    munmap(p, n);
    return;
  }
  altstack = p;
  altstack_bytes = n;
}

void remove_altstack() noexcept {
  if (!altstack) return;
  stack_t have;
  if (sigaltstack(nullptr, &have) || have.ss_sp != static_cast<char*>(altstack) + page) return; // the program's own
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  if (sigaltstack(&none, nullptr)) return;
  munmap(std::exchange(altstack, nullptr), altstack_bytes);
}

void install_fault_handler(void (*judge)(const fault&) noexcept) noexcept {
  if (std::exchange(judge_fault, judge)) return; // an earlier start came this far, then failed, and is tried again
  install(0);
  install(1);
}

void install_for_canaries() noexcept {
  static std::atomic<bool> done{false};
  if (done.exchange(true, std::memory_order_relaxed)) return;
  install(2);
  install(3);
}

} // namespace grt::stack
