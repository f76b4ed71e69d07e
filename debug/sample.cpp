// debug/sample.cpp - the reader's and the handler's side of a sample. sample.hpp has the protocol.
#include "debug/sample.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "debug/peek.hpp"
#include "sched/core/ports.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/monitor/stall.hpp"

namespace grt::debug {
namespace {
enum class request : std::uint32_t { idle, asked, taken, done, dropped };

struct {
  std::atomic<request> is{request::idle};
  const M* m = nullptr; // m and g: the reader writes them before `asked`
  const G* g = nullptr;
  unsigned n = 0; // n and frames: the handler writes them before `done`
  void* frames[unwinder::most];
} slot;

constexpr std::uint64_t answer_ns = 20'000'000, walk_ns = 50'000'000;

arch::registers registers_of(const ucontext_t& c) noexcept {
  arch::registers r{};
#if defined(__x86_64__)
  const auto& g = c.uc_mcontext.gregs;
  constexpr int order[] = {REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15};
  r.pc = static_cast<std::uintptr_t>(g[REG_RIP]);
  r.sp = static_cast<std::uintptr_t>(g[REG_RSP]);
  for (int i = 0; i < arch::registers::saved_n; i++) r.saved[i] = static_cast<std::uintptr_t>(g[order[i]]);
#else
  r.pc = c.uc_mcontext.pc;
  r.sp = c.uc_mcontext.sp;
  for (int i = 0; i < arch::registers::saved_n; i++) r.saved[i] = c.uc_mcontext.regs[19 + i];
#endif
  return r;
}

// Walks from an instruction, not from a return address. Returns 0 if the stack at at.sp is not g's.
unsigned walk_from(arch::registers at, const G* g, void** frames, unwinder& u) noexcept {
  const char* top = racy(g->stk);
  stack::bounds window{}, here{};
  if (!top || !stack::find(top - 1, window) || !stack::find(reinterpret_cast<void*>(at.sp), here)) return 0;
  if (here.low != window.low || at.sp >= reinterpret_cast<std::uintptr_t>(top)) return 0;
  void* pc = reinterpret_cast<void*>(at.pc);
  at.pc++; // because the walk takes it for a return address, and looks up the byte before it
  unsigned n = u.walk(at, {at.sp, reinterpret_cast<std::uintptr_t>(top), true}, frames, unwinder::most);
  if (n) frames[0] = pc;
  return n;
}

// Reads where a thread sleeps in the kernel. The kernel writes "NR ARG*6 SP PC", or "-1 SP PC". Returns false if the
// thread runs.
bool sleeping_at(int tid, arch::registers& at) noexcept {
  char path[64], text[256];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0 || text[0] == 'r') return false; // "running"
  text[n] = 0;
  char *pc = std::strrchr(text, ' '), *sp = nullptr;
  if (!pc) return false;
  *pc++ = 0;
  if (!(sp = std::strrchr(text, ' '))) return false;
  at = {};
  at.sp = std::strtoull(sp + 1, nullptr, 16);
  at.pc = std::strtoull(pc, nullptr, 16);
  return at.sp && at.pc;
}

// Waits until `is` is no longer `was`. Returns false if the time is over before.
bool await_change(request was, std::uint64_t ns) noexcept {
  for (std::uint64_t end = now_ns() + ns; slot.is.load(std::memory_order_acquire) == was;) { // [SAMPLE-1]
    if (now_ns() > end) return false;
    sched_yield();
  }
  return true;
}

unsigned ask_thread(const M* m, const G* g, void** frames) noexcept {
  request r = request::idle;
  if (!stall_signal() || slot.is.load(std::memory_order_relaxed) != r) return 0;
  static std::atomic<bool> reading{false};
  if (reading.exchange(true, std::memory_order_acquire)) return 0; // [SAMPLE-1]
  unsigned n = 0;
  if (slot.is.load(std::memory_order_relaxed) == request::idle) {
    slot.m = m;
    slot.g = g;
    slot.is.store(request::asked, std::memory_order_release); // [SAMPLE-1] the handler sees whom it is about
    if (syscall(SYS_tgkill, getpid(), racy(m->tid), SIGURG) == 0) await_change(request::asked, answer_ns);
    r = request::asked;
    if (!slot.is.compare_exchange_strong(r, request::idle, std::memory_order_acquire)) { // [SAMPLE-1]
      if (r == request::taken) await_change(request::taken, walk_ns);
      r = request::taken;
      if (!slot.is.compare_exchange_strong(r, request::dropped, std::memory_order_acquire)) { // [SAMPLE-1]
        n = slot.n;
        std::copy(slot.frames, slot.frames + n, frames);
        slot.is.store(request::idle, std::memory_order_relaxed);
      }
    }
  }
  reading.store(false, std::memory_order_release); // [SAMPLE-1]
  return n;
}
} // namespace

unsigned sample(const M* m, const G* g, void** frames, unwinder& u) noexcept {
  arch::registers at, after;
  int tid = racy(m->tid);
  if (!sleeping_at(tid, at)) return ask_thread(m, g, frames);
  unsigned n = walk_from(at, g, frames, u);
  return sleeping_at(tid, after) && after.sp == at.sp && after.pc == at.pc && racy(m->g) == g ? n : 0;
}

} // namespace grt::debug

namespace grt {
// In a signal handler, on the thread's alternate stack.
bool take_sample(const void* context) noexcept {
  using namespace debug;
  request r = request::asked;
  const M* m = me();
  if (!m || slot.is.load(std::memory_order_acquire) != r || slot.m != m) return false;             // [SAMPLE-1]
  if (!slot.is.compare_exchange_strong(r, request::taken, std::memory_order_acquire)) return true; // [SAMPLE-1]
  unwinder u;
  const G* g = slot.g;
  bool there = m->g == g && !m->in.load(std::memory_order_relaxed);
  slot.n = there ? walk_from(registers_of(*static_cast<const ucontext_t*>(context)), g, slot.frames, u) : 0;
  r = request::taken;
  if (!slot.is.compare_exchange_strong(r, request::done, std::memory_order_release)) // [SAMPLE-1] with the frames
    slot.is.store(request::idle, std::memory_order_relaxed);                         // dropped
  return true;
}
} // namespace grt
