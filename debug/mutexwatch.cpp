// debug/mutexwatch.cpp - reports a pthread mutex that a goroutine holds while it gives its thread away.
// libgrt_mutexwatch.so (tools/mutexwatch) keeps a list of what each thread holds. This file reports which goroutine it
// was, where, and what is wrong with it.
//
// A goroutine gives its thread away by park, yield, reacquire, pin, unpin and by ending. Each of these takes the
// thread's list and leaves it empty, whether it reports or not, because the next goroutine on that thread is not to
// blame. This costs none of them an extra instruction: each either reads `hooks` anyway, or is slow. A pinned goroutine
// has its own thread, and so its own list.
//
// There is one report per place of locking. A wrapper does not count as a place: a function with "lock" or "mutex" in
// its name, in namespace std or with a name that begins with two underscores, is skipped. The place is the function
// that called the outermost wrapper. To find it takes a look-up in the symbol table, so the whole call chain is
// compared with earlier ones first.
//
// The library is found by a weak reference. libgrt is position-independent code, so the reference goes through the GOT,
// and the program leaves it undefined until it is loaded. This works for PIE or not, with -z now, with GNU ld, gold and
// lld, on x86-64 and AArch64. In a static program the reference is 0.
// Rejected: dlsym. It needs -ldl before glibc 2.34, and it waits for the loader's lock. A thread that is loading a
// library may hold that lock when the library starts this runtime.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <mutex>

#include <grt/detail/held_lock.hpp>

#include "debug/unwind.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/ports.hpp"
#include "sched/core/sched.hpp"

namespace grt {
namespace {
using debug::symbolizer, debug::unwinder;
using detail::held_lock, detail::grt_mutexwatch_1;

// Protects `told` and the output. A goroutine without a P may report, at the end of blocking(), so this is no spin_lock:
// those wait for nobody who may be off its core. Here a report only waits for another one.
class report_lock {
public:
  void lock() noexcept {
    while (word_.exchange(1, std::memory_order_acquire)) futex_wait(&word_, 1); // [TOLD-1]
  }
  bool try_lock() noexcept { return !word_.exchange(1, std::memory_order_acquire); } // [TOLD-1]
  void unlock() noexcept {
    word_.store(0, std::memory_order_release); // [TOLD-1]
    futex_wake(&word_);
  }

private:
  std::atomic<std::uint32_t> word_{0};
} reports;
std::uintptr_t told[1024];

// Returns false if the key was reported before, or if there is no room to remember it.
bool first_time(std::uintptr_t key) noexcept {
  for (std::uintptr_t& t : told) {
    if (!t) return t = key, true;
    if (t == key) return false;
  }
  return false;
}

// Recognizes names such as _ZNSt5mutex4lockEv, _ZNSt10lock_guardISt5mutexEC2ERS0_,
// _ZL20__gthread_mutex_lockP15pthread_mutex_t, _ZNSt3__15mutex4lockEv, _ZNSt8__detail11__lock_impl...
bool is_wrapper(std::string_view s) noexcept {
  auto skip = [&s](std::string_view what) { return s.starts_with(what) && (s.remove_prefix(what.size()), true); };
  if (!skip("_Z")) return false;
  skip("N") || skip("L");
  bool std = skip("St");
  skip("3__1") || skip("8__detail");
  std::size_t n = 0;
  for (; !s.empty() && s[0] >= '0' && s[0] <= '9'; s.remove_prefix(1))
    n = n * 10 + static_cast<std::size_t>(s[0] - '0');
  s = s.substr(0, n);
  return (std || s.starts_with("__")) && (s.find("lock") != s.npos || s.find("mutex") != s.npos);
}

bool to_be_told(const held_lock& h, symbolizer& names) noexcept {
  std::uintptr_t chain = 0;
  for (void* f : h.frames) chain = (chain ^ reinterpret_cast<std::uintptr_t>(f)) * 0x9E3779B97F4A7C15u;
  if (!first_time(chain | std::uintptr_t{1} << 63)) return false; // no code address has that bit
  std::uintptr_t place = 0;
  for (void* f : h.frames) {
    if (f) place = reinterpret_cast<std::uintptr_t>(f);
    if (!f || !is_wrapper(names.name(place).symbol)) break;
  }
  return first_time(place);
}

void write_frames(text_out& t, void* const* frames, unsigned n, symbolizer& names) noexcept {
  for (unsigned i = 0; i < n && frames[i]; i++) {
    const symbolizer::text& s = names.name(reinterpret_cast<std::uintptr_t>(frames[i]));
    t.str("    ").hex(reinterpret_cast<std::uintptr_t>(frames[i]));
    if (s.symbol[0]) t.str("  ").str(s.symbol);
    if (s.where[0]) t.str("  ").str(s.where);
    t.str("\n");
  }
}

GRT_NOINLINE void write_here(text_out& t, const G* g, const void* at, symbolizer& names) noexcept {
  arch::registers here;
  arch::capture(here);
  void* frames[unwinder::most];
  unsigned n = unwinder().walk(here, {here.sp, reinterpret_cast<std::uintptr_t>(g->stk), true}, frames, unwinder::most);
  void** from = std::find(frames, frames + n, at);
  if (from == frames + n) from = frames;
  write_frames(t, from, static_cast<unsigned>(frames + n - from), names);
}
} // namespace

void mutexwatch_start() noexcept {
  if (grt_mutexwatch_1) hooks.fetch_or(hook_mutexwatch, std::memory_order_relaxed);
}

void mutexwatch_follow() noexcept { grt_mutexwatch_1(nullptr); }

void mutexwatch_report(const G* g, const char* why, const void* at) noexcept {
  held_lock held[held_lock::most];
  unsigned n = grt_mutexwatch_1(held);
  if (!n) return;
  int error = errno;
  // Others may be waiting for the lock that the caller holds, or for its P.
  const M* m = me();
  bool hurried = m->in.load(std::memory_order_relaxed) || grt_tls_hold.holds.load(std::memory_order_relaxed);
  std::unique_lock hold(reports, std::defer_lock);
  if (!hurried) hold.lock();
  else if (!hold.try_lock()) return;
  symbolizer names;
  for (unsigned i = 0; i < n; i++) {
    if (!to_be_told(held[i], names)) continue;
    text_out t(2);
    say_who(t.str("grt: mutexwatch: "), g).str(" gives its thread away (").str(why).str(") while it holds ");
    t.str(held[i].kind).str(" ").hex(reinterpret_cast<std::uintptr_t>(held[i].lock));
    t.str(": who wants it next may block this thread for good, and to unlock it on another one is undefined\n"
          "  locked at\n");
    write_frames(t, held[i].frames, held_lock::depth, names);
    t.str("  held at\n");
    write_here(t, g, at, names);
    say_birth(t, g);
  }
  errno = error;
}

} // namespace grt
