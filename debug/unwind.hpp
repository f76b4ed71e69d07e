// debug/unwind.hpp - the call chain of a goroutine that does not run, by its DWARF call frame information.
//
// Why not _Unwind_Backtrace: it begins where it is called and cannot begin elsewhere; it may take a lock and trusts the
// stack. Why not frame pointers: -O2 has none. So this reads .eh_frame itself (found by .eh_frame_hdr's sorted table)
// and interprets what compilers emit for a function's body: CFA = register + offset, registers saved at an offset from
// it, remembered states. Expressions (PLT stubs, signal frames) end the walk: nobody parks there. The stack may change
// while it is read, so every address is checked against the bounds given before it is used: a wrong stack gives a wrong
// answer, and never a fault. The unwind tables are read directly: their module cannot go while somebody is to return
// into it. Rejected: libunwind (a dependency, and its remote mode allocates).
//
// A goroutine's frames begin at the call of grt_switch and end at grt_start, which says that its return address is
// undefined.
#pragma once
#include <cstdint>

#include "arch/arch.hpp"
#include "debug/modules.hpp"

namespace grt::debug {

/// Where stack words may be read: a window (always mapped), or a thread's stack, by peek().
struct stack_view {
  std::uintptr_t low, high;
  bool mapped;
};

/// One word of it. false: it is outside, or not aligned.
bool stack_word(const stack_view& s, std::uintptr_t at, std::uintptr_t& v) noexcept;

class unwinder {
public:
  static constexpr unsigned most = 64;
  /// Return addresses, innermost first: `from.pc` and those above it; at most `n`. Returns how many. A module that was
  /// found is remembered from call to call. Stack: 1.5 KB. Async-signal-safe.
  unsigned walk(const arch::registers& from, const stack_view& stack, void** frames, unsigned n) noexcept;

private:
  module module_{};
};

/// What grt_switch saved at `sp` (arch/*/switch.S). false: sp is not in the view.
bool switch_frame(std::uintptr_t sp, const stack_view& stack, arch::registers& out) noexcept;

} // namespace grt::debug
