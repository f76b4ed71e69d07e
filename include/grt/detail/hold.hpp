// grt/detail/hold.hpp - a goroutine keeps its processor while it has to do with a lock of the runtime. Not API.
//
// A processor is taken from a goroutine that computes, and its thread then competes at a low priority. If that thread
// held a lock, or were the next to get it, goroutines that have processors would wait for it: for seconds on a busy
// machine. So: no goroutine without a processor holds a lock of the runtime, or waits for one. Each thread has two
// words:
//
//   holds   its own: how many locks it holds or is about to take
//   barred  sysmon: not 0, it has no processor or is about to lose it
//
//   here:   holds + 1; compiler barrier; read barred     sysmon: barred = 1; membarrier; read M::in and holds  [HOLD-1]
//
// One of the two sees the other, as with the bracket (sched/protocol/hold.hpp). Four instructions and where the words
// stand; none of them locked. On threads of the program nobody reads `holds` and nobody sets `barred`.
#pragma once
#include <cstdint>

#include <grt/detail/config.hpp>

namespace grt::detail {

/// `holds` is counted, and stands so on return. Gets a processor for a goroutine that has none: it may go on on another
/// thread.
void hold_slow() noexcept;

/// Where the words stand from the thread pointer: the same on all threads, so compilers may keep it.
GRT_DETAIL_INLINE std::uintptr_t hold_at() noexcept {
  std::uintptr_t at;
#if defined(__x86_64__)
  asm("movq grt_tls_hold@gottpoff(%%rip), %0" : "=r"(at));
#else
  asm("adrp %0, :gottprel:grt_tls_hold\n\tldr %0, [%0, #:gottprel_lo12:grt_tls_hold]" : "=r"(at));
#endif
  return at;
}

/// Before a lock is taken, and for each that is held: they nest. What holds may not wait for anything but such locks.
/// Returns hold_at(), for let_loose().
GRT_DETAIL_INLINE std::uintptr_t hold() noexcept {
  const std::uintptr_t words = hold_at();
  bool barred;
#if defined(__x86_64__)
  asm volatile("incl %%fs:(%1)\n\tcmpl $0, %%fs:4(%1)" : "=@ccne"(barred) : "r"(words) : "memory");
#else
  std::uintptr_t at;
  std::uint32_t word;
  asm volatile("mrs %0, tpidr_el0\n\tadd %0, %0, %2\n\tldr %w1, [%0]\n\tadd %w1, %w1, #1\n\tstr %w1, [%0]\n\t"
               "ldr %w1, [%0, #4]"
               : "=&r"(at), "=&r"(word)
               : "r"(words)
               : "memory");
  barred = word;
#endif
  if (GRT_DETAIL_UNLIKELY(barred)) hold_slow();
  return words;
}

/// After the lock is free.
GRT_DETAIL_INLINE void let_loose(std::uintptr_t words = hold_at()) noexcept {
#if defined(__x86_64__)
  asm volatile("decl %%fs:(%0)" : : "r"(words) : "memory", "cc");
#else
  std::uintptr_t at;
  std::uint32_t word;
  asm volatile("mrs %0, tpidr_el0\n\tadd %0, %0, %2\n\tldr %w1, [%0]\n\tsub %w1, %w1, #1\n\tstr %w1, [%0]"
               : "=&r"(at), "=&r"(word)
               : "r"(words)
               : "memory");
#endif
}

} // namespace grt::detail
