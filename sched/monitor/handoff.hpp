// sched/monitor/handoff.hpp - a P goes on without the goroutine that sits on it; the protocol stands in handoff.cpp.
#pragma once
#include <atomic>
#include <cstdint>

namespace grt {

struct M;
struct P;

void give_turn(M* m) noexcept;
void await_turn(M* m) noexcept;

/// Sysmon. Takes vp from the M it sits on, if that is outside its bracket and still at `tick`, and gives it to another.
/// `computes`: its thread is on a core or wants one. From then to `starts_at` vp starts no goroutine (idle.cpp).
[[nodiscard]] bool hand_off(P* vp, std::uint64_t tick, bool computes, std::uint64_t starts_at) noexcept;
/// g0, without a P: waits for one. false: nobody had one for long, and this thread is to end.
[[nodiscard]] bool rest(M* m) noexcept;
/// Keeper's g0: the goroutine that ran on without a P has left it. Also: its thread is not the runtime's any more.
void drift_ends(M* m) noexcept;
/// How many Ms run a goroutine without a P.
unsigned adrift() noexcept;
/// options::hogs. Immutable once the runtime has started.
extern bool hogs_are_lowered;
/// Sysmon: those adrift whose thread computes get a lower priority. Returns how many there are.
unsigned push_hogs_back() noexcept;
/// At the last look, more computed without a P than there may be (sysmon.cpp).
extern std::atomic<bool> too_many_hogs;
/// Sysmon, under GRT_DEBUG=stall: those adrift for stall_ns less what they held their P before.
void tell_stalls(std::uint64_t before_ns) noexcept;
std::uint64_t thread_cpu_ns(int tid) noexcept;
char thread_state(int tid) noexcept;

// idle.cpp
bool somebody_idles() noexcept;
std::uint64_t wakes() noexcept;  // sleepers woken to look for work, ever
bool sysmon_sleeps() noexcept;   // true: somebody idles, and the last one that leaves will call sysmon_rouse
bool sysmon_rests() noexcept;    // true: it sleeps, everybody sleeps, and whoever leaves first will call it
void announced_begin() noexcept; // a P may be had without asking
void announced_end() noexcept;
extern std::atomic<unsigned> announced_ps;

// sysmon.cpp
int sysmon_start() noexcept;  // an errno value
void sysmon_rouse() noexcept; // it looks now
extern std::atomic<unsigned> threads_max;
extern std::atomic<std::uint64_t> handoffs;

} // namespace grt
