// stack/guards.hpp - what makes the lowest 64 KB of a window fault. See guards.cpp for the four ways.
#pragma once
#include <cstddef>

namespace grt::stack {

enum class guard_kind : unsigned char { madvise, poison, mprotect, canary };
inline constexpr const char* guard_names[] = {"madvise", "poison", "mprotect", "canary"};
inline constexpr std::size_t guard_bytes = 64 << 10;

/// The kind of this name; -1: none.
int guard_named(const char* name) noexcept;
/// Tried out on a page of its own, by effect. Before or after the start.
bool can_guard(guard_kind k) noexcept;

/// Once. forced, budget: as in stack::config. `self`: a pidfd of this process, or -1.
void guards_start(int forced, long budget, int self) noexcept;
/// What new windows get. Any thread.
guard_kind guards() noexcept;

// Under the arenas' lock.
/// Memory that has just been opened.
void guards_adopt(char* p, std::size_t bytes) noexcept;
/// Guards for n windows (64 at most) a stride apart, the first at `p`; returns for how many of them, from the first on.
/// The others need a canary, and guards() says so.
std::size_t guards_make(char* p, std::size_t stride, std::size_t n) noexcept;
/// Of the kind madvise, all in this memory; nobody else may use it. No lock needed.
void guards_remove(char* p, std::size_t bytes) noexcept;

} // namespace grt::stack
