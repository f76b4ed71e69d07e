// sched/goroutine/g.hpp - a goroutine.
//
// A G is a slot of 256 bytes in one contiguous arena (sched/goroutine/slab.cpp). Slots are reused and never unmapped,
// so a stale pointer always points at some G. The arena is also the registry that debug/ walks.
//
//  state     stack is used by    the G is in                    leaves by
//  free      nobody              a P's or the global free list  go                      -> prepared
//  prepared  nobody              nothing; its maker holds it    spawn_commit, a timer   -> runnable
//  runnable  nobody              exactly one run queue          an M picks it           -> running
//  running   this G              M::g of one M                  park / yield / exit     -> waiting / runnable / free
//  waiting   nobody, once the    at least one waiter queue      the thread that removes it from there -> runnable;
//            lock it parked      or timer                       only one can, because of the queue's lock or
//            under is free                                      select_state::fired
//
// A G that is runnable for the first time has sp == nullptr: no window is bound before the first run.
// A foreign thread has a G too (kind foreign). This G never runs; its thread blocks on G::birth as a futex word.
// Debugging code reads a G at any moment. G::seq tells which of these reads it may believe (sched/protocol/look.hpp).
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

/// The layout of __cxa_eh_globals in the C++ ABI. Itanium C++ ABI, "Exception Handling", 2.2.2.
struct exception_state {
  void* caught;
  unsigned uncaught;
};

enum class g_kind : std::uint8_t { free, prepared, goroutine, foreign, system };

/// What a parked goroutine waits for. It is for people; the scheduler never follows it. The note of a goroutine is on
/// its own stack (G::note), that of a foreign thread is in its g_ext.
struct park_note {
  const void* object;   // as for park(): what the goroutine waits for, as the program knows it
  std::uint64_t cycles; // arch::cycles() when its P last read the clock before the park (at most 64 turns before)
};

/// What only few goroutines need. Allocated when first needed, freed at the end of the goroutine.
struct g_ext {
  char name[48] = {};
  std::size_t stack_max = 0; // not 0: the window has this size and goes back to the pool of this size
  M* keeper = nullptr;       // pinned: its locked M
  unsigned pins = 0;
  bool fp_own = false; // attr::fp_env: `fp` has its floating-point environment while it does not run
  arch::fp_env fp{};
  locals values;              // used by this goroutine only
  std::exception_ptr exiting; // set by exit(): the exception that unwinds the stack
  void* caught = nullptr;     // the exception that was being handled when exit() was called
  int tid = 0;                // foreign: its thread
  G* next_foreign = nullptr;  // foreign: the list of foreign threads (foreign.cpp)
  park_note note{};           // foreign: what it waits for; in its G, birth takes the place of G::note
  arch::registers at{};       // foreign: the registers where its thread blocks, on its own stack
};

struct alignas(64) G {
  // cache line 0: what a switch and a wake need
  void* sp;           // saved stack pointer               owner: the switch
  char* stk;          // top of its window                 owner: the M that runs or binds it
  detail::waiter w;   // under the lock of the queue that it is in
  std::uint32_t seq;  // bit 0: exception state saved. Above: the count of sched/protocol/look.hpp. Owner: the switch
  g_kind kind;        // immutable while alive
  wait_reason reason; // set by the owner, cleared by ready(); apart from that for people only
  bool pinned;        // owner: itself. Never read stale: the M that readies it reads it under the lock of that wait
  std::uint8_t held;  // a protocol::held_state: no M switches to it while held (scavenge.cpp); outlives the goroutine
  union {
    std::uint32_t birth; // never ran: the P's tick at its spawn. foreign: futex word, 1 while blocked
    std::uint32_t note;  // has parked: lower half of the address of its park_note (note_of)
  };
  std::uint8_t ok; // outcome of a wait, 0 or 1, or a state of wait/timed.hpp. The waker writes it before ready()
  // cache line 1
  exception_state eh;
  void (*run)(void* closure);
  G* link; // free list, global queue, or list of goroutines that are woken together
  std::uint64_t id;
  const void* site; // line != 0: const char* file; else a code address
  std::uint32_t line;
  std::uint8_t last; // the number of the M it ran on last, modulo 256; written by g0, only under GRT_DEBUG=migrate
  g_ext* ext;
  // cache lines 2 and 3
  void* san; // ASan: fake stack; TSan: fiber
  alignas(8) unsigned char closure[120];
};
static_assert(sizeof(G) == 256);
static_assert(offsetof(G, sp) == GRT_G_SP && offsetof(G, stk) == GRT_G_STK && offsetof(G, seq) == GRT_G_SEQ &&
              offsetof(G, eh) == GRT_G_EH);
/// Returns the address of the note of a parked goroutine. The lower half is enough: the note is in the goroutine's
/// window, below `top`, and a window is smaller than 4 GB.
inline const park_note* note_of(const char* top, std::uint32_t note) noexcept {
  auto high = reinterpret_cast<std::uintptr_t>(top);
  std::uintptr_t at = (high & ~std::uintptr_t{0xffffffff}) | note;
  return reinterpret_cast<const park_note*>(at < high ? at : at - (std::uintptr_t{1} << 32));
}
inline constexpr std::size_t closure_offset = offsetof(G, closure);

/// Removes ext from g. A thread that inspects g at the same time (debug/look.cpp) believes what it has read only if
/// ext is unchanged afterwards. So the pointer is cleared before the memory is freed.
inline g_ext* drop_ext(G* g) noexcept {
  return __atomic_exchange_n(&g->ext, nullptr, __ATOMIC_ACQ_REL); // [LOOK-1]
}

/// The value of G::sp from the decision to park until the switch has left the stack. It differs from null, which
/// means that the goroutine has never run.
inline void* const not_saved = reinterpret_cast<void*>(1);

/// May only g0 run g, because it is pinned or held by the scavenger? Asked for every goroutine between its pop and
/// its switch, so both bytes are read at once.
inline bool needs_g0(const G* g) noexcept {
  static_assert(offsetof(G, held) == offsetof(G, pinned) + 1 && offsetof(G, pinned) % 2 == 0);
  using both [[gnu::may_alias]] = std::uint16_t;
  return __atomic_load_n(reinterpret_cast<const both*>(&g->pinned), __ATOMIC_RELAXED); // [HELD-2] see scavenge.cpp
}

inline G* g_of(detail::waiter* w) noexcept { return reinterpret_cast<G*>(reinterpret_cast<char*>(w) - offsetof(G, w)); }

} // namespace grt
