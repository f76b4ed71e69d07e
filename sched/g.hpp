// sched/g.hpp - a goroutine.
//
// A G is a 256-byte slot in one contiguous arena (sched/slab.cpp): slots are reused and never unmapped, so a stale
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
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <grt/detail/waiter.hpp>
#include <grt/trace.hpp>

#include "arch/offsets.h"

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

/// What few goroutines have; allocated when first needed, freed at exit.
struct g_ext {
  char name[48] = {};
  std::size_t stack_max = 0; // not 0: the window is of this class and goes back to it
  M* keeper = nullptr;       // pinned: the M it runs on
  unsigned pins = 0;
  int tid = 0;               // foreign: its thread
  G* next_foreign = nullptr; // foreign: the list of them (foreign.cpp)
};

struct alignas(64) G {
  // line 0: the switch and the wake
  void* sp;            // saved frame                       owner: the switch
  char* stk;           // top of its window                 owner: whoever runs or binds it
  detail::waiter w;    // under the lock of the queue it stands in
  std::uint32_t flags; // bit 0: exception state saved      owner: the switch
  std::uint32_t ok;    // outcome of a wait: written by the waker before ready(), read after the park
  g_kind kind;         // immutable while alive
  wait_reason reason;  // owner, cleared by ready(); for people only
  bool pinned;         // owner: itself. stale: cannot be, it is read by whoever readies it, under that wait's lock
  std::uint8_t held;   // the scavenger: nobody switches to it meanwhile (scavenge.cpp); survives the goroutine
  std::uint32_t birth; // goroutine: P's tick when spawned. foreign: futex word, 1 while blocked
  // line 1
  exception_state eh;
  void (*run)(void* closure);
  G* link; // free list, global queue, list of those woken together
  std::uint64_t id;
  const void* site; // line != 0: const char* file; else a code address
  std::uint32_t line;
  std::uint32_t san_flags;
  g_ext* ext;
  // line 2 and 3
  void* san; // ASan: fake stack; TSan: fiber
  alignas(8) unsigned char closure[120];
};
static_assert(sizeof(G) == 256);
static_assert(offsetof(G, sp) == GRT_G_SP && offsetof(G, stk) == GRT_G_STK && offsetof(G, flags) == GRT_G_FLAGS &&
              offsetof(G, eh) == GRT_G_EH);
inline constexpr std::size_t closure_offset = offsetof(G, closure);

/// In G::sp between the decision to park and the switch. Not null: that is a fresh one.
inline void* const not_saved = reinterpret_cast<void*>(1);

/// Only g0 may run it: it is pinned, or held by the scavenger. Asked of every goroutine between its pop and its switch.
inline bool needs_g0(const G* g) noexcept {
  static_assert(offsetof(G, held) == offsetof(G, pinned) + 1 && offsetof(G, pinned) % 2 == 0);
  using both [[gnu::may_alias]] = std::uint16_t;
  return __atomic_load_n(reinterpret_cast<const both*>(&g->pinned), __ATOMIC_RELAXED); // [HELD-2] see scavenge.cpp
}

inline G* g_of(detail::waiter* w) noexcept { return reinterpret_cast<G*>(reinterpret_cast<char*>(w) - offsetof(G, w)); }

} // namespace grt
