// stack/guards.hpp - guards make an access to the lowest 64 KB of a window fault. guards.cpp lists the four kinds.
#pragma once
#include <cstddef>

namespace grt::stack {

enum class guard_kind : unsigned char { madvise, poison, mprotect, canary };
inline constexpr const char* guard_names[] = {"madvise", "poison", "mprotect", "canary"};
inline constexpr std::size_t guard_bytes = 64 << 10;

/// Returns the kind with this name, or -1.
int guard_named(const char* name) noexcept;
/// Returns whether this kind works here. Tries it out on a page of its own. May be called before and after the start.
bool can_guard(guard_kind k) noexcept;

/// Selects the kind; call once. forced, budget: as in stack::config. `self`: a pidfd of this process, or -1.
void guards_start(int forced, long budget, int self) noexcept;
/// Returns the kind that new windows get. Any thread.
guard_kind guards() noexcept;

// The caller of the next two holds the arenas' lock.
/// Prepares memory that has just been opened for guards.
void guards_adopt(char* p, std::size_t bytes) noexcept;
/// Makes guards for n windows (64 at most) that are `stride` bytes apart, the first at `p`. Returns how many of them,
/// counted from the first, have a guard. The others need a canary; guards() then returns `canary`.
std::size_t guards_make(char* p, std::size_t stride, std::size_t n) noexcept;
/// Removes all guards of the kind madvise in this memory. Nobody else may use the memory meanwhile. Needs no lock.
void guards_remove(char* p, std::size_t bytes) noexcept;

} // namespace grt::stack
