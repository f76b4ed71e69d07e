// arch/switch.hpp - grt_switch, the only function that switches stacks, and the functions that it calls.
//
// The types are opaque on purpose: this folder knows offsets (arch/offsets.h), not the definition of G. The steps of a
// switch are listed in arch/x86_64/switch.S. The far side of a switch is the code that runs after the stack pointer has
// moved to the stack of `to`.
#pragma once
#include <cstdint>

namespace grt {
struct G;
struct M;
struct P;
} // namespace grt

extern "C" {
/// Switches from `self` to `to`. The caller is inside the bracket of `m`; the far side leaves the bracket.
/// `release` is the address of a spin lock, which is stored 0 once self's registers are saved, or the address of a
/// record | 1, which is passed to grt_commit. `to` either has a saved frame (to->sp), or never ran (to->sp == nullptr).
/// In the second case a window is bound and grt_gmain starts on it. The call returns when another switch goes back to
/// `self`, perhaps on another thread: no value that is bound to a thread is valid across it.
void grt_switch(grt::M* m, grt::G* self, grt::G* to, std::uintptr_t release);

/// Called by grt_switch, on self's stack, for a goroutine that never ran. Binds a window to `to`, stores the top of the
/// window in `to` and returns it. The top is 16-byte aligned.
char* grt_bind(grt::P* p, grt::G* to);
/// Called on the far side for an odd `release`.
void grt_commit(std::uintptr_t release);
/// The first function on a new stack. It must do the release itself, and never returns.
[[noreturn]] void grt_gmain(std::uintptr_t release);
/// Ends the running goroutine from any depth of its stack, without returning through its frames.
[[noreturn]] void grt_end();
}
