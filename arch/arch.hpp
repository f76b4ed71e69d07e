// arch/arch.hpp - the few instructions that C++ cannot express, and the function attributes that a switch needs.
#pragma once
#include <cstdint>

// GRT_OPAQUE marks a function that the compiler must not look into. A goroutine may continue on another thread after a
// switch, so the compiler must never carry a value that is bound to a thread across one. `noinline` is not enough:
// gcc -O2 merges two calls of a `noinline` accessor, one before and one after a switch, into one call. `noipa` forbids
// that. clang has no noipa: there the function must also pass its result through GRT_LAUNDER.
#if defined(__clang__)
#define GRT_OPAQUE __attribute__((noinline))
#else
#define GRT_OPAQUE __attribute__((noipa))
#endif
#define GRT_LAUNDER(x) asm volatile("" : "+r"(x) : : "memory")

#define GRT_LIKELY(x) __builtin_expect(!!(x), 1)
#define GRT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define GRT_NOINLINE __attribute__((noinline))
#define GRT_INLINE inline __attribute__((always_inline))

namespace grt::arch {

/// Tells the core that this is a spin loop: PAUSE on x86-64, ISB on AArch64. AArch64 has YIELD for this purpose, but on
/// most cores it does nothing.
GRT_INLINE void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#else
#error "grt runs on x86-64 and AArch64"
#endif
}

/// Reads a monotonic counter, the TSC or CNTVCT_EL0, in a few nanoseconds. Unit: 1 / cycles_per_us() microseconds.
GRT_INLINE std::uint64_t cycles() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  std::uint64_t v;
  asm volatile("mrs %0, cntvct_el0" : "=r"(v));
  return v;
#endif
}

/// The registers that unwinding starts from: program counter, stack pointer and the callee-saved registers.
struct registers {
#if defined(__x86_64__)
  static constexpr int saved_n = 6; // rbx rbp r12 r13 r14 r15
#else
  static constexpr int saved_n = 12; // x19 .. x30
#endif
  std::uintptr_t pc, sp, saved[saved_n];
};
/// Captures the registers of the function that this is inlined into. They are valid until that function returns.
GRT_INLINE void capture(registers& r) noexcept {
#if defined(__x86_64__)
  asm volatile(
      "leaq (%%rip), %%rax\n\tmovq %%rax, (%0)\n\tmovq %%rsp, 8(%0)\n\tmovq %%rbx, 16(%0)\n\tmovq %%rbp, 24(%0)\n\t"
      "movq %%r12, 32(%0)\n\tmovq %%r13, 40(%0)\n\tmovq %%r14, 48(%0)\n\tmovq %%r15, 56(%0)"
      :
      : "r"(&r)
      : "rax", "memory");
#else
  asm volatile(
      "adr x9, .\n\tmov x10, sp\n\tstp x9, x10, [%0]\n\tstp x19, x20, [%0, #16]\n\tstp x21, x22, [%0, #32]\n\t"
      "stp x23, x24, [%0, #48]\n\tstp x25, x26, [%0, #64]\n\tstp x27, x28, [%0, #80]\n\tstp x29, x30, [%0, #96]"
      :
      : "r"(&r)
      : "x9", "x10", "memory");
#endif
}

/// Loads a pointer-sized thread variable of the initial-exec model through a volatile asm. Every use reads the variable
/// anew, and the compiler cannot hoist the read over a switch. Two instructions on x86-64, four on AArch64.
#if defined(__x86_64__)
#define GRT_LOAD_TLS(out, symbol)                                                                                      \
  asm volatile("movq " symbol "@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(out) : : "memory")
#else
#define GRT_LOAD_TLS(out, symbol)                                                                                      \
  do {                                                                                                                 \
    void* tp_;                                                                                                         \
    asm volatile("mrs %1, tpidr_el0\n\tadrp %0, :gottprel:" symbol "\n\tldr %0, [%0, #:gottprel_lo12:" symbol          \
                 "]\n\tldr %0, [%1, %0]"                                                                               \
                 : "=&r"(out), "=&r"(tp_)                                                                              \
                 :                                                                                                     \
                 : "memory");                                                                                          \
  } while (0)
#endif

} // namespace grt::arch
