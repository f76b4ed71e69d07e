// stack/overflow.hpp - the handler of SIGSEGV and SIGBUS, and the stacks that it runs on.
#pragma once
#include <cstddef>
#include <cstdint>

#include "stack/windows.hpp"

namespace grt::stack {

/// A fault that the running code has caused. A signal that was sent is not a fault.
struct fault {
  std::uintptr_t at; ///< the address of the access, as far as the kernel knows it
  std::uintptr_t sp; ///< the stack pointer of the code that made the access
  bool handled;      ///< the program has a handler of its own, which runs next
};
/// Installs the handler. `judge` is called first for every fault; it may report and abort, or return. Then the
/// program's earlier handler runs, or the signal has its default effect. A second call does nothing.
void install_fault_handler(void (*judge)(const fault&) noexcept) noexcept;

/// Installs the handler for SIGILL and SIGFPE as well, because code on destroyed frames often ends in one of these.
/// Call it after install_fault_handler. A second call does nothing.
void install_for_canaries() noexcept;

/// Gives the calling thread an alternate signal stack with a guard page, if it has none.
void install_altstack() noexcept;
/// Unmaps what install_altstack has mapped for this thread. Call it just before the thread ends.
void remove_altstack() noexcept;

/// Returns whether a fault at `at`, with the stack pointer at `sp`, is an overflow of `own`, the window of the running
/// goroutine. `unguarded`: the window has a canary instead of a guard. overflow.cpp states the rule.
bool is_overflow(const bounds& own, bool unguarded, std::uintptr_t at, std::uintptr_t sp) noexcept;
/// Returns whether code that runs on the window `hit`, at `sp`, has run into the guard of this same window.
bool is_overflow_of(const bounds& hit, std::uintptr_t at, std::uintptr_t sp) noexcept;

} // namespace grt::stack
