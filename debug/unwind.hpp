// debug/unwind.hpp - the call chain of a goroutine that does not run, by its DWARF call frame information.
//
// This reads .eh_frame itself, and finds a function in it by the sorted table in .eh_frame_hdr. It interprets what
// compilers emit for the body of a function: CFA (canonical frame address) = register + offset, registers saved at an
// offset from the CFA, remembered states. Expressions, which PLT stubs and signal frames have, end the walk: no
// goroutine parks there.
//
// The stack may change while it is read. So every address is checked against the given bounds before it is used: a
// wrong stack gives a wrong answer, but never a fault. The unwind tables are read directly, because their module cannot
// be unloaded while a function is to return into it.
//
// Rejected: _Unwind_Backtrace. It can only begin where it is called, it may take a lock, and it trusts the stack.
// Rejected: frame pointers. Code compiled with -O2 has none.
// Rejected: libunwind. It is a dependency, and its remote mode allocates.
//
// A goroutine's frames begin at the call of grt_switch. They end at grt_start, whose unwind rules say that its return
// address is undefined.
#pragma once
#include <cstdint>

#include "arch/arch.hpp"
#include "debug/modules.hpp"

namespace grt::debug {

/// Where words of a stack may be read. A window is always mapped; the stack of a thread is read by peek().
struct stack_view {
  std::uintptr_t low, high;
  bool mapped;
};

/// Reads one word of the stack. Returns false if the address is outside the view or not aligned.
bool stack_word(const stack_view& s, std::uintptr_t at, std::uintptr_t& v) noexcept;

class unwinder {
public:
  static constexpr unsigned most = 64;
  /// Writes at most `n` return addresses, innermost first, beginning with `from.pc`, and returns how many. The module
  /// that was found last is remembered from call to call. Stack: 1.5 KB. Async-signal-safe.
  unsigned walk(const arch::registers& from, const stack_view& stack, void** frames, unsigned n) noexcept;

private:
  module module_{};
};

/// Reads the registers that grt_switch has saved at `sp` (arch/*/switch.S). Returns false if sp is not in the view.
bool switch_frame(std::uintptr_t sp, const stack_view& stack, arch::registers& out) noexcept;

} // namespace grt::debug
