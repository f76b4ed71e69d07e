// grt/detail/hold.hpp - a goroutine keeps its processor while it uses a lock of the runtime. Not API.
//
// sysmon, the monitor thread, takes the processor from a goroutine that computes for long; the goroutine's thread
// then competes for a core at a lower priority. If that thread held a lock of the runtime, or were next to get it,
// goroutines that have processors would wait for the thread, for seconds on a busy machine. Therefore a goroutine
// without a processor never holds a lock of the runtime and never waits for one. Each thread has two words for this:
//
//   word     written by    meaning
//   holds    the thread    the number of runtime locks that the thread holds or is about to take
//   barred   the runtime   not 0: the thread has no processor, or is about to lose it
//
//   thread:  holds + 1; compiler barrier; read barred
//   sysmon:  barred = 1; membarrier; read M::in and holds    [HOLD-1]
//
// At least one of the two sees the other's write; sched/protocol/hold.hpp has the argument. hold() costs four
// instructions and computing the words' address; none of the instructions is locked. On threads that grt did not
// create, sysmon neither reads `holds` nor sets `barred`.
#pragma once
#include <cstdint>

#include <grt/detail/config.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::detail {

/// The slow path of hold(): `barred` is set and `holds` has been incremented. If the goroutine has no processor, waits
/// for one; the goroutine may then continue on another thread. On return `holds` of the current thread counts the hold.
void hold_slow() noexcept;

/// Returns the offset of the two words from the thread pointer. It is the same on all threads, so a compiler may keep
/// it across a switch to another thread.
GRT_DETAIL_INLINE std::uintptr_t hold_at() noexcept {
  std::uintptr_t at;
#if defined(__x86_64__)
  asm("movq grt_tls_hold@gottpoff(%%rip), %0" : "=r"(at));
#else
  asm("adrp %0, :gottprel:grt_tls_hold\n\tldr %0, [%0, #:gottprel_lo12:grt_tls_hold]" : "=r"(at));
#endif
  return at;
}

/// Begins a hold. Call it before taking a lock of the runtime, once for each lock; holds nest. Until the matching
/// let_loose() the caller must not wait for anything except such locks. Returns hold_at(), for let_loose().
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

/// Ends a hold. Call it after releasing the lock.
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

#pragma GCC visibility pop
