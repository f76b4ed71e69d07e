// debug/look.cpp - see look.hpp.
#include "debug/look.hpp"

#include <algorithm>
#include <cstring>

#include "chan/select.hpp"
#include "debug/peek.hpp"

namespace grt::debug {
namespace {
bool on_some_m(const G* g) noexcept {
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) { // [PROCS-1]
    const M* m = all_p[i].load(std::memory_order_relaxed)->m.load(std::memory_order_relaxed);
    if (racy(m->g) == g) return true;
  }
  return false;
}

// What must be the same before and after.
struct face {
  void* sp;
  char* stk;
  std::uint64_t id;
  std::uint64_t wait;
  std::uint32_t stamp;
  g_kind kind;
  wait_reason reason;
  bool running;

  explicit face(const G* g) noexcept
      : sp(racy(g->sp)), stk(racy(g->stk)), id(racy(g->id)), wait(racy(g->wait)), stamp(racy(g->flags) & ~1u),
        kind(racy(g->kind)), reason(racy(g->reason)), running(kind == g_kind::goroutine && on_some_m(g)) {}
  bool operator==(const face& f) const noexcept {
    return sp == f.sp && stk == f.stk && id == f.id && wait == f.wait && stamp == f.stamp && kind == f.kind &&
           reason == f.reason && running == f.running;
  }
};

// The two clocks ran from one origin; the stamp is the last moment that ends in its bits.
std::uint64_t ns_of(std::uint32_t stamp) noexcept {
  std::uint64_t cycles = arch::cycles(), ns = now_ns();
  std::uint32_t units = (park_stamp(cycles) - stamp) >> 1 & 0x7fffffff;
  if (units > 1u << 30) units = 0; // stamped by a core whose counter is a little ahead
  double per_unit = static_cast<double>(ns - origin_ns) / static_cast<double>(cycles - origin_cycles) *
                    static_cast<double>(std::uint64_t{1} << park_stamp_shift);
  return std::max(ns - std::min(ns, static_cast<std::uint64_t>(units * per_unit)), origin_ns);
}

unsigned walk_stack(const face& f, const g_ext& ext, void** frames, unwinder& u) noexcept {
  arch::registers from;
  if (f.kind == g_kind::foreign) {
    stack_view thread{ext.at.sp, ext.at.sp + (8 << 20), false};
    return u.walk(ext.at, thread, frames, unwinder::most);
  }
  auto sp = reinterpret_cast<std::uintptr_t>(f.sp);
  stack::bounds b{};
  stack_view window{sp, reinterpret_cast<std::uintptr_t>(f.stk), true};
  if (!sp || !f.stk || !stack::find(f.stk - 1, b) || f.sp < b.low || f.sp >= f.stk || !switch_frame(sp, window, from))
    return 0;
  return u.walk(from, window, frames, unwinder::most);
}

// A select's object is the list of its channels, on its stack and perhaps gone. false: it is.
bool find_channel(sighting& s) noexcept {
  detail::select_channels all;
  if (!peek(s.object, &all, sizeof all)) return false;
  s.object = nullptr; // of one that only waits for a time
  s.more = std::max(all.n_order, 1u) - 1;
  return !all.n_order || peek(all.order, &s.object, sizeof s.object);
}

// false: the goroutine moved while it was looked at.
bool look_once(const G* g, const face& f, sighting& s, unwinder& u) noexcept {
  s = {};
  s.kind = f.kind;
  s.id = f.id;
  s.reason = f.reason;
  bool waits = f.reason != wait_reason::none && !f.running;
  s.st = f.running ? state::running : waits ? state::waiting : state::runnable;
  g_ext ext; // on the heap, and perhaps gone
  const g_ext* at = racy(g->ext);
  if (at && !peek(at, &ext, sizeof ext)) return false;
  std::memcpy(s.name, ext.name, sizeof s.name - 1);
  if (f.kind == g_kind::foreign) {
    s.tid = ext.tid;
    s.object = ext.object;
  } else {
    if (waits) s.object = object_of(f.wait);
    s.line = racy(g->line);
    const void* site = racy(g->site);
    if (!s.line) s.site = reinterpret_cast<std::uintptr_t>(site);
    else if (!peek_string(static_cast<const char*>(site), s.file, sizeof s.file)) return false;
  }
  if (waits && f.reason == wait_reason::select && !find_channel(s)) return false;
  if (waits) s.since_ns = ns_of(f.stamp);
  if (!f.running) {
    s.n_frames = walk_stack(f, ext, s.frames, u);
    if (waits && !s.n_frames && f.kind == g_kind::goroutine) return false; // its first park, on its way into the switch
  }
  if (s.st == state::runnable && s.n_frames) { // may have run and yielded at the same place: nothing counts that
    void* again[unwinder::most];
    if (!(f == face(g)) || walk_stack(f, ext, again, u) != s.n_frames ||
        std::memcmp(s.frames, again, s.n_frames * sizeof *again) != 0)
      return false;
  }
  return f == face(g) && racy(g->ext) == at;
}
} // namespace

bool look(const G* g, sighting& s, unwinder& u) noexcept {
  for (int tries = 0;; tries++) {
    face f(g);
    bool foreign = f.kind == g_kind::foreign && f.reason != wait_reason::none;
    if (f.kind != g_kind::goroutine && !foreign) return false;
    if (look_once(g, f, s, u)) return true;
    if (tries < 3) continue;
    if (foreign) return false;
    s.st = state::running; // never twice the same
    s.object = nullptr;
    s.since_ns = s.n_frames = s.more = 0;
    return f.id == racy(g->id);
  }
}

} // namespace grt::debug
