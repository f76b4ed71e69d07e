// sched/monitor/handoff.hpp - hand-off: a P goes to another M while its goroutine goes on.
//
// The protocol and the terms (detached, hog, resting) are explained in handoff.cpp.
#pragma once
#include <atomic>
#include <cstdint>

namespace grt {

struct M;
struct P;

/// A P has been given to m: its thread may go on.
void give_turn(M* m) noexcept;
/// m's own thread: waits for give_turn(m).
void await_turn(M* m) noexcept;

/// Takes vp from its M and gives it to another M, if the first one is outside its bracket and still at `tick`.
/// Caller: sysmon, or halt.cpp. `computes`: the M's thread is on a core or waits for one. Until `starts_at` (0: no
/// limit) vp starts no new goroutine (idle.cpp). Returns true if the P was handed off.
[[nodiscard]] bool hand_off(P* vp, std::uint64_t tick, bool computes, std::uint64_t starts_at) noexcept;
/// Waits for a P. Caller: g0 of an M without a P. Returns false if no P came for long; the thread must then exit.
[[nodiscard]] bool rest(M* m) noexcept;
/// m is no longer detached. Caller: g0 of a locked M, whose goroutine has left the thread; or halt.cpp, where m's
/// thread no longer belongs to the runtime.
void drift_ends(M* m) noexcept;
/// How many Ms are detached.
unsigned adrift() noexcept;
/// options::hogs. Immutable once the runtime has started.
extern bool hogs_are_lowered;
/// Lowers the priority of detached threads that compute. Caller: sysmon. Returns how many of them there are.
unsigned push_hogs_back() noexcept;
/// Was the limit of hogs reached at sysmon's last look (sysmon.cpp)?
extern std::atomic<bool> too_many_hogs;
/// Reports the goroutines that have held their thread for stall_ns: with a P for `before_ns`, and then detached.
/// Caller: sysmon, under GRT_DEBUG=stall.
void tell_stalls(std::uint64_t before_ns) noexcept;
/// The CPU time that the thread has used.
std::uint64_t thread_cpu_ns(int tid) noexcept;
/// The thread's state letter in /proc/self/task, such as R. 0: the thread is gone.
char thread_state(int tid) noexcept;

// The following are defined in idle.cpp.
bool somebody_idles() noexcept;
std::uint64_t wakes() noexcept;  // how many sleeping Ms have been woken to look for work, ever
bool sysmon_sleeps() noexcept;   // true: an M is idle; the last one to leave the idle list calls sysmon_rouse
bool sysmon_rests() noexcept;    // true: sysmon and every M sleep; the first M to leave calls sysmon_rouse
void announced_begin() noexcept; // from now on one more P may be taken without asking its owner
void announced_end() noexcept;
extern std::atomic<unsigned> announced_ps;

// The following are defined in sysmon.cpp.
int sysmon_start() noexcept;  // returns an errno value
void sysmon_rouse() noexcept; // sysmon looks now
extern std::atomic<unsigned> threads_max;
extern std::atomic<std::uint64_t> handoffs;

} // namespace grt
