// debug/look.cpp - see look.hpp.
#include "debug/look.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "chan/select.hpp"
#include "debug/peek.hpp"
#include "debug/sample.hpp"
#include "sched/protocol/look.hpp"

namespace grt::debug {
namespace {
// Converts a time on arch::cycles() to steady-clock nanoseconds. The two origins were read at the same moment.
std::uint64_t ns_of(std::uint64_t cycles) noexcept {
  std::uint64_t now_cycles = arch::cycles(), now = now_ns();
  if (cycles <= origin_cycles || cycles >= now_cycles) return cycles <= origin_cycles ? origin_ns : now;
  double rate = static_cast<double>(now - origin_ns) / static_cast<double>(now_cycles - origin_cycles);
  auto ago = static_cast<std::uint64_t>(static_cast<double>(now_cycles - cycles) * rate);
  return std::max(now - std::min(now, ago), origin_ns);
}

// Sets `window` to the memory that a saved goroutine's frames and note are read from. Returns false if its sp and its
// window do not fit together: then it is not saved.
bool window_of(const G* g, stack_view& window) noexcept {
  char* top = racy(g->stk);
  auto sp = reinterpret_cast<std::uintptr_t>(racy(g->sp));
  stack::bounds b{};
  window = {sp, reinterpret_cast<std::uintptr_t>(top), true};
  return sp && top && stack::find(top - 1, b) && sp >= reinterpret_cast<std::uintptr_t>(b.low) && sp < window.high;
}

bool read_note(const G* g, const stack_view& window, park_note& note) noexcept {
  auto at = reinterpret_cast<std::uintptr_t>(note_of(reinterpret_cast<const char*>(window.high), racy(g->note)));
  std::uintptr_t object = 0;
  bool good = stack_word(window, at, object) && stack_word(window, at + offsetof(park_note, cycles), note.cycles);
  note.object = reinterpret_cast<const void*>(object);
  return good;
}

unsigned walk_saved(const stack_view& window, void** frames, unwinder& u) noexcept {
  arch::registers from;
  return switch_frame(window.low, window, from) ? u.walk(from, window, frames, unwinder::most) : 0;
}

// The object of a select is the list of its channels, which is on the selecting stack and perhaps gone. Replaces it
// with the first channel. Returns false if the list is gone.
bool find_channel(sighting& s) noexcept {
  detail::select_channels all;
  if (!peek(s.object, &all, sizeof all)) return false;
  s.object = nullptr; // stays null if the select only waits for a time
  s.more = std::max(all.n_order, 1u) - 1;
  return !all.n_order || peek(all.order, &s.object, sizeof s.object);
}

// Reads a goroutine that is saved, or a foreign thread that is blocked. Returns false if something does not fit: then
// it was neither.
bool look_at_saved(const G* g, const g_ext& ext, sighting& s, unwinder& u) noexcept {
  park_note note{};
  if (s.kind == g_kind::foreign) {
    note = ext.note;
    s.tid = ext.tid;
    s.n_frames = u.walk(ext.at, {ext.at.sp, ext.at.sp + (8 << 20), false}, s.frames, unwinder::most);
  } else if (racy(g->sp)) {
    stack_view window;
    if (!window_of(g, window)) return false;
    if (s.st == state::waiting && !read_note(g, window, note)) return false;
    s.n_frames = walk_saved(window, s.frames, u);
  }
  if (s.st != state::waiting) return true;
  s.object = note.object;
  s.since_ns = ns_of(note.cycles);
  return s.reason != wait_reason::select || find_channel(s);
}

// Returns the M that runs g, or null if none does any more.
const M* runner_of(const G* g) noexcept {
  for (const M* m = all_m.load(std::memory_order_acquire); m; m = m->made_before) // [MS-1]
    if (racy(m->g) == g) return m;
  return nullptr;
}

// Reads a goroutine that runs. What is read cannot be of one moment. If its thread changes meanwhile, the last one seen
// counts.
void look_at_running(const G* g, sighting& s, unwinder& u) noexcept {
  const M* m = runner_of(g);
  if (!m) return;
  s.tid = racy(m->tid);
  s.detached = racy(m->p)->m.load(std::memory_order_relaxed) != m;
  if (!s.detached) return;
  s.since_ns = m->detached_ns.load(std::memory_order_relaxed);
  s.n_frames = sample(m, g, s.frames, u);
}

// Returns false if the goroutine moved while it was read.
bool look_once(const G* g, sighting& s, unwinder& u) noexcept {
  s = {};
  std::uint32_t seq = protocol::look_begin<hardware>(g);
  s.kind = racy(g->kind);
  s.reason = racy(g->reason);
  if (s.kind != g_kind::goroutine && s.kind != g_kind::foreign) return protocol::look_holds<hardware>(g, seq);
  bool runs = protocol::on_thread(seq), waits = !runs && s.reason != wait_reason::none;
  s.st = runs ? state::running : waits ? state::waiting : state::runnable;
  s.id = racy(g->id);
  alignas(g_ext) char copy[sizeof(g_ext)]{}; // raw bytes: the copy must not destroy what ext owns
  const g_ext& ext = *reinterpret_cast<const g_ext*>(copy);
  const g_ext* at = racy(g->ext); // on the heap, perhaps freed meanwhile
  if (at && !peek(at, copy, sizeof copy)) return false;
  std::memcpy(s.name, ext.name, sizeof s.name - 1);
  if (s.kind == g_kind::goroutine) {
    s.line = racy(g->line);
    const void* site = racy(g->site);
    if (!s.line) s.site = reinterpret_cast<std::uintptr_t>(site);
    else if (!peek_string(static_cast<const char*>(site), s.file, sizeof s.file)) return false;
  }
  if (!runs && !look_at_saved(g, ext, s, u)) return false;
  // Two changes come without a switch: a goroutine that runs changes ext or ends, and a wake clears the reason of one
  // that is saved.
  bool same = racy(g->ext) == at && racy(g->reason) == s.reason;
  return same && protocol::look_holds<hardware>(g, seq);
}
} // namespace

bool look(const G* g, sighting& s, unwinder& u) noexcept {
  for (int tries = 0;; tries++) {
    bool holds = look_once(g, s, u);
    if (!holds && tries < 3) continue;
    if (s.kind == g_kind::foreign) return holds && s.st == state::waiting;
    if (s.kind != g_kind::goroutine) return false;
    if (!holds) { // it was switched to or from during every attempt
      s.st = state::running;
      s.object = nullptr;
      s.since_ns = s.n_frames = s.more = 0;
      if (s.id != racy(g->id)) return false;
    }
    if (s.st == state::running) look_at_running(g, s, u);
    return true;
  }
}

} // namespace grt::debug
