// sched/core/sched.hpp - M, P, and the owner's side of everything that is hot.
//
// The bracket. A P's data is touched only between enter(m) and leave(m) by the M that holds it: `in = 1`, compiler
// barrier, look at `lost`. A thief (steal.cpp) stores `lost`, makes every core fence (membarrier), then looks at `in`;
// one of the two sees the other (Dekker with an asymmetric fence; sched/protocol/bracket.hpp). [BRK-1] Nothing inside may
// throw, run user code or call malloc. Brackets do not nest. The scheduler's own loop (g0) stays inside all the time,
// so a searching M is never stolen from; it must deny() an asker. grt_switch clears `in` on the far side, through the M
// in its register.
//
// Parking. The lock under which the waiter was published is released by the switch once the registers are saved; so
// whoever can take the waiter out of its queue finds a G that may run. If the next goroutine needs a window that is not
// cached, g0 goes first: slow work never happens under somebody's lock.
//
// Order of picking: `next` (just readied; a chain of 128 at most) - newest of `fresh`, one pop in 16 from `ready`
// instead - `ready` in FIFO order; every 64 ticks g0 looks at the global queue, the front of `ready`, timers and
// retirement first, and at the end of a slice at the front of every queue. How long a goroutine waits at most, and what
// happens when very many never ran: fair.cpp. The global queue is two: those that were woken and those that
// are to start (or came back from a long computation); they take turns. While too many compute without a P
// (sysmon.cpp), a P may start none for some time: then every pick is g0's.
#pragma once
#include <atomic>
#include <cstdint>

#include "arch/arch.hpp"
#include "arch/switch.hpp"
#include "base/check.hpp"
#include "base/san.hpp"
#include "base/spin.hpp"
#include "sched/core/hold.hpp"
#include "sched/core/run_queue.hpp"
#include "sched/goroutine/g.hpp"
#include "sched/protocol/bracket.hpp"
#include "sched/protocol/held.hpp"
#include "sched/protocol/look.hpp"
#include "sched/protocol/sleep.hpp"
#include "sched/time/wheel.hpp"
#include "stack/windows.hpp"

namespace grt {

struct alignas(128) P {
  // owner, inside the bracket
  run_queue queue;
  std::uint64_t tick = 0;      // choices of what to run next, and what skip_ticks() adds
  std::uint64_t starts_at = 0; // CLOCK_MONOTONIC ns: while too many are adrift, it starts no goroutine before
  std::uint64_t cycles0 = 0;   // when tick0 was: its last round through g0; thieves peek at these three
  std::uint64_t tick0 = 0;
  std::uint32_t average = 0, empty = 0, random = 0;
  unsigned due = 0;              // fair.cpp: fronts that this slice's end has still to run
  std::uint64_t slice_began = 0; // likewise, in turns
  std::uint64_t crowd_until = 0; // likewise: the turn until which only those run that never ran; 0: all do
  static constexpr unsigned fronts = 4, seals_most = 16;
  std::uint32_t seal[seals_most][fronts]; // likewise: where its queues ended at the ends of slices
  unsigned first_seal = 0, seals = 0, last_front = 0;
  bool fired_first = false,
       fired_long = false;              // likewise: one whom a timer woke went first; and had a slice for itself
  std::atomic<std::uint64_t> slices{0}; // that have ended; owner writes, anybody reads
  std::atomic<std::uint32_t> skips{0};  // [TICK-1] odd while tick and skipped change together
  std::uint64_t skipped = 0;            // of tick: what was no choice
  std::uint64_t steals = 0, stolen = 0; // times it took goroutines over from another P, and how many
  alignas(128) G* free = nullptr;
  std::uint32_t n_free = 0, free_most = 0, carve = 16;
  char *slab = nullptr, *slab_end = nullptr;
  std::uint64_t id_next = 0, id_end = 0, id_batch = 8;
  std::atomic<std::uint64_t> spawned{0}, exited{0}; // owner writes, anybody reads
  stack::cache stacks;
  void* blocks = nullptr; // blocks.hpp: linked by their first word
  std::uint32_t n_blocks = 0;
  struct sighting { // what another P looked like from here at the last look
    std::uint64_t tick;
    std::uint64_t spawns;            // its next goroutine id
    std::uint64_t switched, spawned; // cycles: when either was seen to change
  };
  sighting* seen = nullptr; // procs_max of them
  // shared
  alignas(128) std::atomic<M*> m{nullptr};
  unsigned id = 0;
  wheel timers;
};

using protocol::hardware, protocol::lost_state;
enum class keeper_fate : std::uint8_t { keeps, spare, ends }; // what becomes of a keeper once its P is back (pin.cpp)

struct alignas(128) M {
  std::atomic<std::uint32_t> in{1};
  std::uint32_t nobody = 0; // the lock released by a switch that waits under none
  G* g = nullptr;
  P* p = nullptr;
  exception_state* eh = nullptr;
  G* g0p = nullptr;
  unsigned id = 0;
  alignas(64) G g0{};
  alignas(64) G dead{}; // where an ended goroutine's registers go
  alignas(128) std::atomic<lost_state> lost{lost_state::free};
  P* thief = nullptr; // valid while lost is ask or grant
  alignas(128) std::atomic<std::uint32_t> asleep{0};
  bool woken_as_watcher = false; // under idle.lock; nobody's while it rests
  struct {                       // what an ended goroutine still needed while it stood on its window; g0 puts both away
    char* top;
    bool sized;
    g_ext* ext;
  } late{};
  char *stack_low = nullptr, *stack_high = nullptr; // of g0
  void* maker_fiber = nullptr;                      // TSan: in whose name fibers are made
  void* dead_fiber = nullptr;                       // TSan: destroyed by the next switch
  G* lend = nullptr;          // a pinned goroutine for g0 to run on its keeper; keeper: the goroutine of this turn
  std::uint64_t refused[2]{}; // GRT_DEBUG=migrate: since when it leaves all that waits, woken and to start, to the
                              // others, in cycles; 0: no
  M* lender = nullptr;        // keeper: whose P it holds
  bool keeper = false;        // immutable
  int tid = 0;                // 0 while no thread runs here
  M* made_before = nullptr;   // [MS-1] immutable: the list of all Ms ever made
  std::atomic<std::uint32_t> stalled_ms{0};  // sysmon, for the report (stall.cpp)
  std::atomic<hold_words*> words{nullptr};   // [HOLD-2] its thread's
  std::atomic<std::uint32_t> drift{0};       // sched/protocol/drift.hpp
  std::atomic<std::uint64_t> detached_ns{0}; // CLOCK_MONOTONIC: when its P went to another M, last time
  std::atomic<bool> computes{false};         // a hog: said by who takes its P, then by sysmon
  int nice_was = 0;                          // [DRIFT-1] before it was lowered
  bool low = false;                          // its own: has been lowered and cannot rise
  M* rest_next = nullptr;                    // rests, or has no thread (handoff.cpp)
  struct {                                   // sysmon: what it knows of it while it is adrift
    std::uint32_t drift = 0;                 // which time that is
    bool told = false;                       // stall.cpp
    std::uint64_t cpu_ns = 0;                // thread clock at the first look
    std::uint64_t used_ns = 0, grew_ns = 0;  // since then; when that was known to grow
  } seen;
  keeper_fate fate{};
  std::atomic<std::uint32_t> vacant{1}; // [LEND-3] keeper: a protocol::vacancy
  std::atomic<std::uint32_t> turn{0};   // [LEND-1] futex word of lender and keeper
};
static_assert(offsetof(M, in) == GRT_M_IN && offsetof(M, g) == GRT_M_G && offsetof(M, p) == GRT_M_P &&
              offsetof(M, eh) == GRT_M_EH);

inline constexpr unsigned procs_max = 1024;
extern std::atomic<P*> all_p[procs_max];                   // set once each
extern std::atomic<unsigned> n_procs;                      // the limit now
extern std::atomic<unsigned> n_made;                       // Ps ever made
alignas(128) extern std::atomic<std::uint32_t> need_watch; // idle.cpp
alignas(128) extern std::atomic<bool> hand_over_wakes;     // idle.cpp
extern std::atomic<M*> all_m;                              // the M made last; none is ever unmade

struct alignas(128) global_queue {
  spin_lock lock;
  std::atomic<std::uint32_t> n{0}; // stale 0: seen at the next look. stale 1: one empty look
  struct list {
    G* head = nullptr;
    G** tail = &head;
    std::uint32_t pushed = 0, popped = 0; // ever; without the lock: a hint
  } woken, to_start;
  bool start_next = false;
  std::atomic<G*> returned{nullptr}; // [RETURN-1] from threads that are lowered, newest first; in n, not yet in a list
};
extern global_queue injected;

/// The calling thread's M; null on a thread grt did not make. Never kept across a switch.
GRT_INLINE M* me() noexcept {
  M* m;
  GRT_LOAD_TLS(m, "grt_tls_m");
  return m;
}

bool enter_slow(M* m) noexcept;
/// false: the P was given to another M while user code ran here (handoff.cpp). Then the caller is outside; what needs a
/// P must be done by way of the global queue, or after reacquire().
[[nodiscard]] GRT_INLINE bool enter(M* m) noexcept {
  GRT_DCHECK(!m->in.load(std::memory_order_relaxed), "brackets do not nest");
  return GRT_LIKELY(protocol::enter<hardware>(m)) || enter_slow(m);
}
/// On a goroutine, holding nothing: stands in the global queue until an M with a P picks it. Returns that M.
M* reacquire(M* m) noexcept;
/// Inside, on whatever M that takes.
[[nodiscard]] GRT_INLINE M* enter_here(M* m) noexcept {
  while (GRT_UNLIKELY(!enter(m))) m = reacquire(m);
#ifdef GRT_CHECK_HOLDS
  GRT_CHECK(m == me(), "the bracket is another thread's");
#endif
  return m;
}
GRT_INLINE void leave(M* m) noexcept {
  GRT_DCHECK(m->in.load(std::memory_order_relaxed), "not in a bracket");
  protocol::leave<hardware>(m);
}

/// The caller has taken g out of the place where it waited. From here on g may be queued, once, and run.
GRT_INLINE void becomes_runnable(G* g) noexcept {
  GRT_DCHECK(g->kind == g_kind::goroutine, "a slot without a goroutine is made runnable");
  GRT_DCHECK(!g->sp || g->reason != wait_reason::none, "a goroutine that does not wait is made runnable");
  protocol::is_runnable<hardware>(g, wait_reason::none);
}

void wake_watcher() noexcept;
/// After a push that leaves more than one goroutine waiting here.
GRT_INLINE void notify() noexcept {
  if (GRT_UNLIKELY(protocol::must_wake<hardware>(need_watch))) wake_watcher();
}
void inject(G* g) noexcept;      // any thread, not under a park lock
void inject_last(G* g) noexcept; // it has computed for long: stands with those that are to start
void inject_low(G* g) noexcept;  // the same from a thread of low priority: without a lock

GRT_INLINE std::uint32_t surplus(const P* p) noexcept { return p->queue.surplus(); }
void wake_for_hand_over() noexcept;
/// After putting one into an empty `next`: whoever did may go on for long. A hint; the leader looks in any case.
GRT_INLINE void handed_over() noexcept {
  if (GRT_UNLIKELY(hand_over_wakes.load(std::memory_order_relaxed))) wake_for_hand_over();
}
GRT_INLINE void put_next(P* p, G* g) noexcept {
  if (p->queue.put_next(g)) notify();
  else handed_over();
}
/// The only writer of a counter that anybody may read. One instruction, which two accesses of a std::atomic are not.
GRT_INLINE void count_one(std::atomic<std::uint64_t>& n) noexcept {
  static_assert(sizeof n == sizeof(std::uint64_t));
  auto& plain = *reinterpret_cast<std::uint64_t*>(&n);
  // [COUNT-1] A reader that sees an end counted sees its start counted. On x86 every store releases.
  if constexpr (hardware::loads_in_order()) ++plain;
  else n.store(plain + 1, std::memory_order_release); // [COUNT-1]
}
/// The P's owner. Moves tick forward by what is no choice of what to run next.
inline void skip_ticks(P* p, std::uint64_t n) noexcept {
  std::uint32_t s = p->skips.load(std::memory_order_relaxed);
  p->skips.store(s + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release); // [TICK-1] odd before either changes
  p->tick += n;
  p->skipped += n;
  p->skips.store(s + 2, std::memory_order_release); // [TICK-1] even after both have
}
/// Inside. The next goroutine of this P, or null: g0 must look further.
GRT_INLINE G* pick(P* p) noexcept {
  std::uint64_t tick = ++p->tick;
  if (GRT_UNLIKELY((tick & 63) == 0)) return nullptr;
  return p->queue.pick();
}

/// Inside -> outside, on the far side. See arch/switch.hpp; with a sanitizer, told to it.
#if GRT_SANITIZED
void switch_to(M* m, G* self, G* to, std::uintptr_t release) noexcept;
#else
GRT_INLINE void switch_to(M* m, G* self, G* to, std::uintptr_t release) noexcept {
  GRT_DCHECK(to == m->g0p || (to->sp != not_saved && to->kind == g_kind::goroutine), "switch to what cannot run");
  GRT_DCHECK(to->kind != g_kind::goroutine || !protocol::on_thread(to->seq), "switch to what runs already");
  grt_switch(m, self, to, release);
}
#endif
inline std::uintptr_t no_lock(M* m) noexcept { return reinterpret_cast<std::uintptr_t>(&m->nobody); }

/// A commit record: `fn(self)` runs on the far side instead of one store. Lives on the parked stack until fn's last
/// release.
struct commit_record {
  void (*fn)(commit_record*);
};
inline std::uintptr_t commit_of(commit_record* r) noexcept { return reinterpret_cast<std::uintptr_t>(r) | 1; }
/// For a commit_record: releases a lock in the name of the goroutine that parked. Its own tsan_release came before; an
/// instrumented store here would put the wrong goroutine's clock in its place.
void unlock_far_side(spin_lock& l) noexcept;
inline std::uintptr_t release_of(spin_lock* l) noexcept { return reinterpret_cast<std::uintptr_t>(&l->word); }

/// Parks the calling goroutine or thread, which holds (hold.hpp); its waiter is published and `release` guards it. The
/// hold is over. Returns when ready() was called on it. `object`: what it waits for, as the program knows it, shown to
/// people and never followed; of a select, its detail::select_channels.
void park(G* self, std::uintptr_t release, wait_reason why, const void* object = nullptr) noexcept;
/// Ends the program if the caller is a signal handler on the alternate stack (park.cpp).
void check_signal_stack() noexcept;
/// `here`: an address in the caller's frame. g: the current goroutine. Asks only where that is outside g's window.
GRT_INLINE void check_stack_of(const G* g, const void* here) noexcept {
  // No window is larger, and below the lowest one lies as much that nobody can use.
  auto below_top = static_cast<std::size_t>(g->stk - static_cast<const char*>(here));
  if (GRT_UNLIKELY(below_top >= stack::stack_max_most)) check_signal_stack();
}
/// Makes g runnable (or wakes the thread): once per park. Never under a park lock; not from g0.
void ready(G* g) noexcept;
/// Inside: the same at the tail of the queue, for many at once.
void ready_tail(G* g) noexcept;
/// The caller's G; a thread of its own gets one. Starts the runtime. @throws std::system_error
G* self();
void yield_here(M* m) noexcept;
/// Inside. null: no memory.
G* g_alloc(P* p) noexcept;
void g_free(P* p, G* g) noexcept;
void g_put(P* p, G* g) noexcept; // the same, where the caller has set g->kind to free
void g_give_back(P* p) noexcept; // inside, before it sleeps: what is too much for one that does nothing
G* g_alloc_anywhere() noexcept;  // outside, any thread
void g_free_anywhere(G* g) noexcept;
P* timer_home() noexcept;        // whose wheel a new timer of this thread goes to
std::uint64_t now_ns() noexcept; // CLOCK_MONOTONIC
/// A deadline `ns` after `now`. Neither is negative and both are below 2^63, so the unsigned sum cannot wrap; the wheel
/// takes any sum (it waits in the top level). grt/detail/duration.hpp has cut off what would be more.
inline std::uint64_t add_ns(std::uint64_t now, std::int64_t ns) noexcept {
  return now + static_cast<std::uint64_t>(ns);
}
/// When a timer set now for `ns` is due, and what time that is. From a second on the kernel's coarse clock will do (5
/// ns against 22): never early, and late by one of its ticks at most.
std::uint64_t deadline_in(std::int64_t ns, std::uint64_t& now) noexcept;
/// After an insert, with or without the wheel's lock. Wakes the M that sleeps for timers if `when` is earlier than what
/// it sleeps for.
void timer_added(std::uint64_t when_ns) noexcept;
/// The caller holds. Arms n, which is not armed, in the wheel of the P that it has, or of any.
void timer_arm(timer_node* n, std::uint64_t when, std::uint64_t now) noexcept;
/// The caller holds. n's fire is not running on return. true: it was armed.
bool timer_cancel(timer_node* n) noexcept;
text_out& say_who(text_out& t, const G* g);               // "goroutine 7 [name]"
text_out& say_birth(text_out& t, const G* g);             // "  created at file:line\n", or a code address
void report_begin(const G* g, const char* what) noexcept; // "grt: fatal: goroutine 7 [name]: what" (goexit.cpp)
[[noreturn]] void report_end(const G* g) noexcept;        // its stack, where it was created; aborts
void watch_thread_end() noexcept;                         // each thread of the runtime as it starts (goexit.cpp)
[[noreturn]] void end_unwound() noexcept;                 // where a forced unwind leaves the goroutine's function
void terminated(M* m) noexcept;                           // std::terminate was called: reports if grt::exit() is why
extern arch::fp_env fp_default; // the process's when the runtime started; every thread of the runtime begins with it
/// attr::fp_env, around every switch: its goroutine takes its environment along and leaves the default one behind.
/// Asked only under hook_fp, which is set before the first such goroutine can run.
GRT_INLINE void fp_leave(G* g) noexcept {
  if (!g->ext || !g->ext->fp_own) return;
  g->ext->fp = arch::fp_save();
  arch::fp_load(fp_default);
}
GRT_INLINE void fp_arrive(const G* g) noexcept {
  if (g->ext && g->ext->fp_own) arch::fp_load(g->ext->fp);
}
void start_runtime();      // idempotent, thread-safe; throws std::system_error
void mloop(M* m) noexcept; // g0; returns when the thread is to end

// g0 only, inside (idle.cpp, steal.cpp)
G* search(M* m) noexcept;
bool hunt(M* m) noexcept;
bool hunt_woken(M* m) noexcept; // only those who have run before, and what stands beside them
bool stealable(M* m, P* p) noexcept;
void deny(M* m) noexcept;
extern spin_lock steal_pair; // nobody but the owner leaves `free`, `poke` or `announced` without it
G* global_pop(M* m, bool may_start = true) noexcept;
void global_append(global_queue::list& l, G* g) noexcept; // injected.lock held
G* global_pop_of(M* m, global_queue::list& l) noexcept;
extern std::atomic<std::uint64_t> cycles_per_us;
extern std::uint64_t origin_ns, origin_cycles; // one moment on both clocks, at the start; immutable

} // namespace grt
