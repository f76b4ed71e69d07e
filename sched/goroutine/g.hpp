// sched/goroutine/g.hpp - a goroutine.
//
// A G is a 256-byte slot in one contiguous arena (sched/goroutine/slab.cpp): slots are reused and never unmapped, so a stale
// pointer always points at some G, and the arena is the registry that debug/ walks.
//
//  state     stack owned by    stands in                    leaves by
//  free      nobody            a P's or the global free list  go                        -> prepared
//  prepared  nobody            nothing (its maker holds it) spawn_commit, a timer        -> runnable
//  runnable  nobody            exactly one run queue        an M picks it                -> running
//  running   this G            M::g of one M                park / yield / exit          -> waiting / runnable / free
//  waiting   nobody, once the  >= 1 waiter queue or timer   whoever takes it out of it   -> runnable
//            lock it parked                                 (one winner: the queue's lock, or select_state::fired)
//            under is free
//
// `runnable` for the first time means sp == nullptr: no window is bound before the first run.
// A foreign thread has a G too (kind foreign): it is never run, it blocks on G::birth as a futex word.
// Debugging code reads a G at any moment; G::seq tells it what to believe (sched/protocol/look.hpp).
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>

#include <grt/detail/waiter.hpp>
#include <grt/trace.hpp>

#include "arch/arch.hpp"
#include "arch/fp.hpp"
#include "arch/offsets.h"
#include "sched/goroutine/locals.hpp"

namespace grt {

struct M;
struct G;
using trace::wait_reason;

/// As the C++ ABI lays out __cxa_eh_globals. Itanium C++ ABI, "Exception Handling", 2.2.2.
struct exception_state {
  void* caught;
  unsigned uncaught;
};

enum class g_kind : std::uint8_t { free, prepared, goroutine, foreign, system };

/// What a parked goroutine waits for, for people only: never followed by the scheduler. A goroutine's stands on its own
/// stack (G::note), a foreign thread's in its g_ext.
struct park_note {
  const void* object;   // as for park()
  std::uint64_t cycles; // when, on arch::cycles(): its processor's last look around before the park
};

/// What few goroutines have; allocated when first needed, freed at exit.
struct g_ext {
  char name[48] = {};
  std::size_t stack_max = 0; // not 0: the window is of this class and goes back to it
  M* keeper = nullptr;       // pinned: the M it runs on
  unsigned pins = 0;
  bool fp_own = false; // attr::fp_env: fp is its environment while it does not run
  arch::fp_env fp{};
  locals values;              // owner: itself
  std::exception_ptr exiting; // set by exit(); what is caught on the way
  void* caught = nullptr;     // what was being handled when exit() was called
  int tid = 0;                // foreign: its thread
  G* next_foreign = nullptr;  // foreign: the list of them (foreign.cpp)
  park_note note{};           // foreign: what it waits for; G::birth is its futex word then
  arch::registers at{};       // foreign: where it blocks; its stack is its thread's
};

struct alignas(64) G {
  // line 0: the switch and the wake
  void* sp;           // saved frame                       owner: the switch
  char* stk;          // top of its window                 owner: whoever runs or binds it
  detail::waiter w;   // under the lock of the queue it stands in
  std::uint32_t seq;  // bit 0: exception state saved. Above: sched/protocol/look.hpp's count. Owner: the switch
  g_kind kind;        // immutable while alive
  wait_reason reason; // owner, cleared by ready(); for people only
  bool pinned;        // owner: itself. stale: cannot be, it is read by whoever readies it, under that wait's lock
  std::uint8_t held;  // the scavenger: nobody switches to it meanwhile (scavenge.cpp); survives the goroutine
  union {
    std::uint32_t birth; // goroutine that never ran: P's tick when spawned. foreign: futex word, 1 while blocked
    std::uint32_t note;  // goroutine that parked: its park_note's address, lower half (note_of)
  };
  std::uint8_t ok; // outcome of a wait: written by the waker before ready(), read after the park
  // line 1
  exception_state eh;
  void (*run)(void* closure);
  G* link; // free list, global queue, list of those woken together
  std::uint64_t id;
  const void* site; // line != 0: const char* file; else a code address
  std::uint32_t line;
  std::uint8_t last; // the M it ran on last, modulo 256; g0. Only for GRT_DEBUG=migrate
  g_ext* ext;
  // line 2 and 3
  void* san; // ASan: fake stack; TSan: fiber
  alignas(8) unsigned char closure[120];
};
static_assert(sizeof(G) == 256);
static_assert(offsetof(G, sp) == GRT_G_SP && offsetof(G, stk) == GRT_G_STK && offsetof(G, seq) == GRT_G_SEQ &&
              offsetof(G, eh) == GRT_G_EH);
/// Where the note of a parked goroutine stands: in its window, which is smaller than 4 GB, below its top.
inline const park_note* note_of(const char* top, std::uint32_t note) noexcept {
  auto high = reinterpret_cast<std::uintptr_t>(top);
  std::uintptr_t at = (high & ~std::uintptr_t{0xffffffff}) | note;
  return reinterpret_cast<const park_note*>(at < high ? at : at - (std::uintptr_t{1} << 32));
}
inline constexpr std::size_t closure_offset = offsetof(G, closure);

/// Whoever looks at g meanwhile (debug/look.cpp) believes what it read only if it finds ext unchanged afterwards, so it
/// goes before its memory does.
inline g_ext* drop_ext(G* g) noexcept {
  return __atomic_exchange_n(&g->ext, nullptr, __ATOMIC_ACQ_REL); // [LOOK-1]
}

/// In G::sp from the decision to park until the switch has left the stack. Not null: that is a fresh one.
inline void* const not_saved = reinterpret_cast<void*>(1);

/// Only g0 may run it: it is pinned, or held by the scavenger. Asked of every goroutine between its pop and its switch.
inline bool needs_g0(const G* g) noexcept {
  static_assert(offsetof(G, held) == offsetof(G, pinned) + 1 && offsetof(G, pinned) % 2 == 0);
  using both [[gnu::may_alias]] = std::uint16_t;
  return __atomic_load_n(reinterpret_cast<const both*>(&g->pinned), __ATOMIC_RELAXED); // [HELD-2] see scavenge.cpp
}

inline G* g_of(detail::waiter* w) noexcept { return reinterpret_cast<G*>(reinterpret_cast<char*>(w) - offsetof(G, w)); }

} // namespace grt
