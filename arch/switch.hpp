// arch/switch.hpp - the one function that switches stacks, and what it calls back.
//
// Opaque types on purpose: this folder knows offsets (arch/offsets.h), never a G. See the `.S` of the ISA for the
// steps.
#pragma once
#include <cstdint>

namespace grt {
struct G;
struct M;
struct P;
} // namespace grt

extern "C" {
/// Hands the processor from `self` to `to`. Caller is inside the bracket of `m`; the far side is outside it.
/// `release`: a spin lock's address (stored 0 once self's registers are saved), or a record's address | 1 for
/// grt_commit. `to` is either saved (to->sp) or fresh (to->sp == nullptr: a window is bound and grt_gmain starts on
/// it). Returns when somebody switches back to `self`, perhaps on another thread: nothing thread-bound survives it.
void grt_switch(grt::M* m, grt::G* self, grt::G* to, std::uintptr_t release);

/// Called by grt_switch on self's stack for a fresh goroutine. Stores and returns the top of its window, 16-byte
/// aligned.
char* grt_bind(grt::P* p, grt::G* to);
/// Called on the far side for an odd `release`.
void grt_commit(std::uintptr_t release);
/// First function on a new stack; must do the release itself. Never returns.
[[noreturn]] void grt_gmain(std::uintptr_t release);
/// Ends the goroutine that runs here from whatever depth of its stack, without returning through it.
[[noreturn]] void grt_end();
}
