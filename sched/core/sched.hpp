// sched/core/sched.hpp - M and P, and the hot functions that run on the owner's side.
//
// The bracket. Only the M that holds a P touches its data, and only between enter(m) and leave(m). The
// M stores `in = 1`, has a compiler barrier, and reads the claim word `lost`. A thief (steal.cpp) stores
// `lost`, makes every core fence (membarrier), and reads `in`. One of the two sees the other: Dekker's
// algorithm with an asymmetric fence; see sched/protocol/bracket.hpp. [BRK-1]
//
// Code inside a bracket must not throw, run user code or call malloc. Brackets do not nest. The
// scheduler's own loop (g0) is always inside, so nobody can steal from an M that searches. So it must
// deny() requests. grt_switch clears `in` on the far side, that is, after it has left the first stack;
// it uses the pointer to M that it has in a register.
//
// Parking. The switch releases the lock under which the waiter was published, once the registers are
// saved. So a thread that takes the waiter out of its queue finds a G that may run. If the next
// goroutine needs a window that is not cached, g0 runs first: slow work never happens under that lock.
//
// What runs next: run_queue.hpp has the usual order of a P. Every 64 ticks g0 first looks at the global
// queue, the front of runq, the timers, and whether its P is retired. At the end of a slice it looks at
// the front of every queue. fair.cpp says how long a goroutine waits at most, and what happens when very
// many goroutines never ran. The global queue has two lists, which take turns: goroutines that were woken,
// and goroutines that are to start or that come back from a long computation. While too many goroutines
// compute without a P (sysmon.cpp), a P may be barred from starting any for some time. Then g0 makes
// every choice.
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
  std::uint64_t starts_at = 0; // CLOCK_MONOTONIC ns: no goroutine starts before, while too many compute without a P
  std::uint64_t cycles0 = 0;   // time of the last round through g0; thieves read these three fields (a hint)
  std::uint64_t tick0 = 0;     // `tick` at that time
  std::uint32_t average = 0, empty = 0, random = 0;
  // from here to fired_long: fair.cpp
  unsigned due = 0;              // the fronts that still have to run because a slice has ended
  std::uint64_t slice_began = 0; // in turns
  std::uint64_t crowd_until = 0; // until this turn only goroutines that never ran may run; 0: all may
  static constexpr unsigned fronts = 4, seals_most = 16;
  std::uint32_t seal[seals_most][fronts]; // where the queues ended at the ends of slices
  unsigned first_seal = 0, seals = 0, last_front = 0;
  // a goroutine that a timer woke ran before the fronts; and it used a whole slice
  bool fired_first = false, fired_long = false;
  std::atomic<std::uint64_t> slices{0}; // ended slices; owner writes, anybody reads
  std::atomic<std::uint32_t> skips{0};  // [TICK-1] odd while tick and skipped change together
  std::uint64_t skipped = 0;            // the part of `tick` that skip_ticks() has added
  std::uint64_t steals = 0, stolen = 0; // how often this P took goroutines from another P, and how many
  alignas(128) G* free = nullptr;
  std::uint32_t n_free = 0, free_most = 0, carve = 16;
  char *slab = nullptr, *slab_end = nullptr;
  std::uint64_t id_next = 0, id_end = 0, id_batch = 8;
  std::atomic<std::uint64_t> spawned{0}, exited{0}; // owner writes, anybody reads
  stack::cache stacks;
  void* blocks = nullptr; // blocks.hpp: linked by their first word
  std::uint32_t n_blocks = 0;
  struct sighting { // what this P saw of another P when it last looked (steal.cpp)
    std::uint64_t tick;
    std::uint64_t spawns;            // the other P's next goroutine id
    std::uint64_t switched, spawned; // cycles: when `tick` and `spawns` were last seen to change
  };
  sighting* seen = nullptr; // an array of procs_max
  // shared
  alignas(128) std::atomic<M*> m{nullptr};
  unsigned id = 0;
  wheel timers;
};

using protocol::hardware, protocol::lost_state;
enum class keeper_fate : std::uint8_t { keeps, spare, ends }; // of a locked M, once it has given its P back (pin.cpp)

struct alignas(128) M {
  std::atomic<std::uint32_t> in{1}; // 1: inside the bracket
  std::uint32_t nobody = 0;         // the word that a switch "releases" if it has no lock to release
  G* g = nullptr;
  P* p = nullptr;
  exception_state* eh = nullptr;
  G* g0p = nullptr;
  unsigned id = 0;
  alignas(64) G g0{};
  alignas(64) G dead{};                                        // where an ended goroutine's registers go
  alignas(128) std::atomic<lost_state> lost{lost_state::free}; // the claim word (sched/protocol/bracket.hpp)
  P* thief = nullptr;                                          // valid while lost is ask or grant
  alignas(128) std::atomic<std::uint32_t> asleep{0};
  bool woken_as_watcher = false; // guarded by idle.lock (sleep.hpp); unused while the M rests
  struct {                       // what an ended goroutine needs until its thread has left its window; g0 frees it
    char* top;
    bool sized;
    g_ext* ext;
  } late{};
  char *stack_low = nullptr, *stack_high = nullptr; // of g0
  void* maker_fiber = nullptr;                      // TSan: the fiber that makes the others (switch.cpp)
  void* dead_fiber = nullptr;                       // TSan: destroyed by the next switch
  // The goroutine that g0 must run next, without a search: pinned, or held. On a locked M: the one of this turn.
  G* lend = nullptr;
  // GRT_DEBUG=migrate, for each list of the global queue (woken, to start): since when this M leaves all that
  // waits there to other Ms, in cycles; 0: it does not.
  std::uint64_t refused[2]{};
  M* lender = nullptr;                       // locked M: the M whose P it holds; also the link of two lists in pin.cpp
  bool keeper = false;                       // this is a locked M (pin.cpp); immutable
  int tid = 0;                               // 0 while this M has no thread
  M* made_before = nullptr;                  // [MS-1] immutable: the list of all Ms ever made
  std::atomic<std::uint32_t> stalled_ms{0};  // sysmon, for the report (stall.cpp)
  std::atomic<hold_words*> words{nullptr};   // [HOLD-2] of its thread
  std::atomic<std::uint32_t> drift{0};       // sched/protocol/drift.hpp
  std::atomic<std::uint64_t> detached_ns{0}; // CLOCK_MONOTONIC: when its P last went to another M
  std::atomic<bool> computes{false};         // a hog; set by the taker of its P, later by sysmon
  int nice_was = 0;                          // [DRIFT-1] the nice value before it was lowered
  bool low = false;                          // only its own thread: the priority was lowered and cannot rise
  M* rest_next = nullptr;                    // link in the list of resting or of threadless Ms (handoff.cpp)
  struct {                                   // only sysmon: what it knows of this M while it is detached
    std::uint32_t drift = 0;                 // the value of M::drift that this is about
    bool told = false;                       // stall.cpp: it was reported
    std::uint64_t cpu_ns = 0;                // thread clock when sysmon first looked
    // how far the thread clock has advanced since; when it was last known to advance
    std::uint64_t used_ns = 0, grew_ns = 0;
  } seen;
  keeper_fate fate{};
  std::atomic<std::uint32_t> vacant{1}; // [LEND-3] locked M: a protocol::vacancy
  std::atomic<std::uint32_t> turn{0};   // [LEND-1] futex word: the M was given a P (sched/protocol/handoff.hpp)
};
static_assert(offsetof(M, in) == GRT_M_IN && offsetof(M, g) == GRT_M_G && offsetof(M, p) == GRT_M_P &&
              offsetof(M, eh) == GRT_M_EH);

inline constexpr unsigned procs_max = 1024;
extern std::atomic<P*> all_p[procs_max];                   // set once each
extern std::atomic<unsigned> n_procs;                      // procs now
extern std::atomic<unsigned> n_made;                       // Ps ever made
alignas(128) extern std::atomic<std::uint32_t> need_watch; // idle.cpp
alignas(128) extern std::atomic<bool> hand_over_wakes;     // idle.cpp
extern std::atomic<M*> all_m;                              // the M made last; no M is ever freed

struct alignas(128) global_queue {
  spin_lock lock;
  std::atomic<std::uint32_t> n{0}; // a stale 0 delays until the next look; a stale 1 costs one empty look
  struct list {
    G* head = nullptr;
    G** tail = &head;
    std::uint32_t pushed = 0, popped = 0; // since the start; a hint if read without the lock
  } woken, to_start;
  bool start_next = false;
  std::atomic<G*> returned{nullptr}; // [RETURN-1] from lowered threads, newest first; counted in n, not yet in a list
};
extern global_queue injected;

/// The M of the calling thread; null on a thread that grt did not make. Do not keep it across a switch.
GRT_INLINE M* me() noexcept {
  M* m;
  GRT_LOAD_TLS(m, "grt_tls_m");
  return m;
}

bool enter_slow(M* m) noexcept;
/// Returns false, outside, if the P was given to another M while user code ran here (handoff.cpp), or if
/// goroutines stand still (halt.hpp). The caller can then use the global queue, or call reacquire() first.
[[nodiscard]] GRT_INLINE bool enter(M* m) noexcept {
  GRT_DCHECK(!m->in.load(std::memory_order_relaxed), "brackets do not nest");
  return GRT_LIKELY(protocol::enter<hardware>(m)) || enter_slow(m);
}
/// Caller: a goroutine without a hold. It waits in the global queue until an M with a P picks it. Returns
/// that M.
M* reacquire(M* m) noexcept;
/// Enters the bracket, on another M if need be. Returns the M, inside.
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

/// Caller: has taken g out of the place where it waited. From here on g may be queued, once, and run.
GRT_INLINE void becomes_runnable(G* g) noexcept {
  GRT_DCHECK(g->kind == g_kind::goroutine, "a slot without a goroutine is made runnable");
  GRT_DCHECK(!g->sp || g->reason != wait_reason::none, "a goroutine that does not wait is made runnable");
  protocol::is_runnable<hardware>(g, wait_reason::none);
}

void wake_watcher() noexcept;
/// Call after a push that leaves more than one goroutine waiting here.
GRT_INLINE void notify() noexcept {
  if (GRT_UNLIKELY(protocol::must_wake<hardware>(need_watch))) wake_watcher();
}
void inject(G* g) noexcept;      // puts g into the global queue; any thread, not under a park lock
void inject_last(G* g) noexcept; // the same for a g that has computed for long: it joins those that are to start
void inject_low(G* g) noexcept;  // the same as inject_last, without a lock, from a thread of lowered priority

GRT_INLINE std::uint32_t surplus(const P* p) noexcept { return p->queue.surplus(); }
void wake_for_hand_over() noexcept;
/// Call after a goroutine was put into an empty run_next: the caller may go on to compute for long. A lost
/// wake-up does no harm, because the leader looks in any case.
GRT_INLINE void handed_over() noexcept {
  if (GRT_UNLIKELY(hand_over_wakes.load(std::memory_order_relaxed))) wake_for_hand_over();
}
GRT_INLINE void put_next(P* p, G* g) noexcept {
  if (p->queue.put_next(g)) notify();
  else handed_over();
}
/// Caller: the only writer of n; anybody may read it. On x86 this is one instruction; a load and a store of a
/// std::atomic would be two.
GRT_INLINE void count_one(std::atomic<std::uint64_t>& n) noexcept {
  static_assert(sizeof n == sizeof(std::uint64_t));
  auto& plain = *reinterpret_cast<std::uint64_t*>(&n);
  // [COUNT-1] A reader that sees the end of a goroutine counted also sees its start counted. On x86 every
  // store is a release.
  if constexpr (hardware::loads_in_order()) ++plain;
  else n.store(plain + 1, std::memory_order_release); // [COUNT-1]
}
/// Caller: the owner of p. Moves `tick` forward by n without a choice of what to run next.
inline void skip_ticks(P* p, std::uint64_t n) noexcept {
  std::uint32_t s = p->skips.load(std::memory_order_relaxed);
  p->skips.store(s + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release); // [TICK-1] odd before either changes
  p->tick += n;
  p->skipped += n;
  p->skips.store(s + 2, std::memory_order_release); // [TICK-1] even after both have
}
/// Caller: inside. Returns the next goroutine of this P. Null: g0 must look further.
GRT_INLINE G* pick(P* p) noexcept {
  std::uint64_t tick = ++p->tick;
  if (GRT_UNLIKELY((tick & 63) == 0)) return nullptr;
  return p->queue.pick();
}

/// The caller is inside; the bracket ends on the far side. See arch/switch.hpp. A sanitizer is told of it.
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

/// A function that a parking goroutine lets run on the far side, in place of the release of one lock: fn(self).
/// The record is on the parked stack, so fn must not touch it after its last release.
struct commit_record {
  void (*fn)(commit_record*);
};
inline std::uintptr_t commit_of(commit_record* r) noexcept { return reinterpret_cast<std::uintptr_t>(r) | 1; }
/// For a commit_record: releases a lock on behalf of the goroutine that parked. That goroutine has called
/// tsan_release itself. An instrumented store here would replace its clock with that of another goroutine.
void unlock_far_side(spin_lock& l) noexcept;
inline std::uintptr_t release_of(spin_lock* l) noexcept { return reinterpret_cast<std::uintptr_t>(&l->word); }

/// Parks the calling goroutine or foreign thread. The caller has a hold (hold.hpp), which ends here. Its
/// waiter is published, and `release` is the lock that guards it. Returns after ready() was called on the
/// caller. `object` is what it waits for, as the program knows it; for a select, its
/// detail::select_channels. It is only shown to people, never dereferenced.
void park(G* self, std::uintptr_t release, wait_reason why, const void* object = nullptr) noexcept;
/// Ends the program if the caller is a signal handler on the alternate stack (park.cpp).
void check_signal_stack() noexcept;
/// `here` is an address in the caller's frame, g the current goroutine. The costly check runs only if `here`
/// is outside the window of g.
GRT_INLINE void check_stack_of(const G* g, const void* here) noexcept {
  // No window is larger than stack_max_most, and as many bytes below the lowest window belong to nobody.
  auto below_top = static_cast<std::size_t>(g->stk - static_cast<const char*>(here));
  if (GRT_UNLIKELY(below_top >= stack::stack_max_most)) check_signal_stack();
}
/// Makes g runnable, or wakes the foreign thread. Call it once per park, never under a park lock and not from
/// g0.
void ready(G* g) noexcept;
/// The same, but g goes to the tail of the queue: for callers that wake many at once.
void ready_tail(G* g) noexcept;
/// On g0, inside: the same for what a timer or an event has ended the wait of, threads too.
void ready_on_g0(M* m, G* g) noexcept;
/// The G of the caller; a foreign thread gets one. Starts the runtime. @throws std::system_error
G* self();
void yield_here(M* m) noexcept;
/// Caller: inside. Null: no memory.
G* g_alloc(P* p) noexcept;
void g_free(P* p, G* g) noexcept;
void g_put(P* p, G* g) noexcept; // the same, where the caller has set g->kind to free
void g_give_back(P* p) noexcept; // inside, before the M sleeps: gives up free slots that an idle P does not need
G* g_alloc_anywhere() noexcept;  // outside, any thread
void g_free_anywhere(G* g) noexcept;
P* timer_home() noexcept;        // the P whose wheel a new timer of this thread goes to
std::uint64_t now_ns() noexcept; // CLOCK_MONOTONIC
/// The deadline `ns` after `now`. Neither is negative and both are below 2^63, so the unsigned sum cannot
/// wrap; grt/detail/duration.hpp has cut off longer durations. The wheel takes any sum: a far deadline waits
/// in its top level.
inline std::uint64_t add_ns(std::uint64_t now, std::int64_t ns) noexcept {
  return now + static_cast<std::uint64_t>(ns);
}
/// Returns when a timer that is set now for `ns` is due, and stores the present time in `now`. From one second
/// on it reads the kernel's coarse clock, which costs 5 ns, not 22. The timer is then never early, and late by
/// at most one tick of that clock.
std::uint64_t deadline_in(std::int64_t ns, std::uint64_t& now) noexcept;
/// Call after an insert, with or without the lock of the wheel. Wakes the leader if it would sleep longer than
/// `when_ns`.
void timer_added(std::uint64_t when_ns) noexcept;
/// Caller: has a hold. Arms n, which is not armed, in the wheel of the caller's P, or of any P if it has none.
void timer_arm(timer_node* n, std::uint64_t when, std::uint64_t now) noexcept;
/// Caller: has a hold. On return n's fire function does not run. Returns true if n was armed.
bool timer_cancel(timer_node* n) noexcept;
text_out& say_who(text_out& t, const G* g);               // "goroutine 7 [name]"
text_out& say_birth(text_out& t, const G* g);             // "  created at file:line\n", or a code address
void report_begin(const G* g, const char* what) noexcept; // "grt: fatal: goroutine 7 [name]: what" (goexit.cpp)
[[noreturn]] void report_end(const G* g) noexcept;        // its stack, where it was created; aborts
void watch_thread_end() noexcept;                         // each thread of the runtime as it starts (goexit.cpp)
[[noreturn]] void end_unwound() noexcept;                 // a forced unwind has left the goroutine's function
void terminated(M* m) noexcept;                           // std::terminate was called: reports if grt::exit() caused it
extern arch::fp_env fp_default; // of the process when the runtime started; each thread of the runtime begins with it
/// For goroutines started with attr::fp_env, around every switch: the goroutine takes its environment along and
/// leaves the default one behind. Called only under hook_fp, which is set before the first such goroutine can
/// run.
GRT_INLINE void fp_leave(G* g) noexcept {
  if (!g->ext || !g->ext->fp_own) return;
  g->ext->fp = arch::fp_save();
  arch::fp_load(fp_default);
}
GRT_INLINE void fp_arrive(const G* g) noexcept {
  if (g->ext && g->ext->fp_own) arch::fp_load(g->ext->fp);
}
void start_runtime();      // idempotent, thread-safe; throws std::system_error
void mloop(M* m) noexcept; // caller: g0; returns when the thread must end

// g0 only, inside (idle.cpp, steal.cpp)
G* search(M* m) noexcept;
bool hunt(M* m) noexcept;
bool hunt_woken(M* m) noexcept; // only from a P with woken goroutines; an owner that donates may add fresh ones
bool stealable(M* m, P* p) noexcept;
void deny(M* m) noexcept;
extern spin_lock steal_pair; // only the owner may change `free`, `poke` or `announced` without it
G* global_pop(M* m, bool may_start = true) noexcept;
void global_append(global_queue::list& l, G* g) noexcept; // injected.lock held
G* global_pop_of(M* m, global_queue::list& l) noexcept;
extern std::atomic<std::uint64_t> cycles_per_us;
extern std::uint64_t origin_ns, origin_cycles; // one moment at the start, on both clocks; immutable

} // namespace grt
