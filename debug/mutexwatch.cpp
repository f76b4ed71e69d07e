// debug/mutexwatch.cpp - a pthread mutex held while its goroutine gives the thread away. libgrt_mutexwatch.so
// (tools/mutexwatch) knows what a thread holds, this says who, where and what is wrong with it.
//
// Every way off a thread (park, yield, reacquire, pin, unpin, the goroutine's end) takes the thread's list and leaves
// it empty, told or not: the next goroutine there is not to blame. None of them has an instruction more for this: each
// looks at `hooks` anyway or is slow. A pinned goroutine's thread is its own, and so is its list.
//
// Once per place of locking. A wrapper is not a place: what namespace std or an identifier with two underscores calls a
// lock or a mutex is passed over, up to the function that wanted it. To find that out takes a look into the symbol
// table, so the whole chain is compared first.
//
// How it finds the library: a weak reference. This library is position-independent code, so that goes through the GOT
// and the program keeps it undefined until it is loaded: PIE or not, -z now, GNU ld, gold and lld, x86-64 and AArch64.
// A static program gets 0. Rejected: dlsym (-ldl before glibc 2.34, and it waits for the loader's lock, which whoever
// loads a library that starts us may hold).
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <grt/detail/held_lock.hpp>

#include "debug/unwind.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/ports.hpp"
#include "sched/core/sched.hpp"

namespace grt {
namespace {
using debug::symbolizer, debug::unwinder;
using detail::held_lock, detail::grt_mutexwatch_1;

spin_lock lock; // over told and the output
std::uintptr_t told[1024];

// false: it was told before, or there is no room to remember it.
bool first_time(std::uintptr_t key) noexcept {
  for (std::uintptr_t& t : told) {
    if (!t) return t = key, true;
    if (t == key) return false;
  }
  return false;
}

// _ZNSt5mutex4lockEv, _ZNSt10lock_guardISt5mutexEC2ERS0_, _ZL20__gthread_mutex_lockP15pthread_mutex_t,
// _ZNSt3__15mutex4lockEv, _ZNSt8__detail11__lock_impl...
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
  spin_guard hold(lock);
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
