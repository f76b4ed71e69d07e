// stack/overflow.hpp - the handler of SIGSEGV and SIGBUS, and the stacks that it runs on.
#pragma once
#include <cstddef>
#include <cstdint>

#include "stack/windows.hpp"

namespace grt::stack {

/// A fault that the running code has caused. A signal that somebody sent is none.
struct fault {
  std::uintptr_t at; ///< the address of the access, as far as the kernel knows it
  std::uintptr_t sp; ///< of the code that made the access
  bool handled;      ///< the program has a handler of its own, which runs next
};
/// Installs the handler. `judge` is called first for every fault; it may report and abort, or return. Then the
/// program's earlier handler runs, or the signal has its default effect. A second call does nothing.
void install_fault_handler(void (*judge)(const fault&) noexcept) noexcept;

/// Installs it for SIGILL and SIGFPE as well, which destroyed frames end in. After the former; once.
void install_for_canaries() noexcept;

/// Gives the calling thread an alternate signal stack with a guard page, if it has none.
void install_altstack() noexcept;
/// Unmaps what install_altstack has mapped for this thread. The caller is about to end it.
void remove_altstack() noexcept;

/// Whether a fault at `at` with the stack pointer at `sp` is an overflow of the window `own`, on which the running
/// goroutine stands. `unguarded`: a canary stands in for the window's guard. See overflow.cpp for the rule.
bool is_overflow(const bounds& own, bool unguarded, std::uintptr_t at, std::uintptr_t sp) noexcept;
/// Whether code that stands on the window `hit`, at `sp`, has run into the guard of this same window.
bool is_overflow_of(const bounds& hit, std::uintptr_t at, std::uintptr_t sp) noexcept;

} // namespace grt::stack
