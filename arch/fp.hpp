// arch/fp.hpp - the floating-point environment that attr::fp_env makes a goroutine's own.
//
// x86-64: MXCSR, with its sticky flags, and the x87 control word. AArch64: FPCR. The x87 status word and FPSR, where
// the sticky flags of those units are, stay the thread's.
#pragma once
#include <cstdint>

#include "arch/arch.hpp"

namespace grt::arch {

struct fp_env {
#if defined(__x86_64__)
  std::uint32_t mxcsr;
  std::uint16_t control;
#else
  std::uint64_t fpcr;
#endif
};

GRT_INLINE fp_env fp_save() noexcept {
  fp_env e;
#if defined(__x86_64__)
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(e.mxcsr), "=m"(e.control)::"memory");
#else
  asm volatile("mrs %0, fpcr" : "=r"(e.fpcr)::"memory");
#endif
  return e;
}

GRT_INLINE void fp_load(const fp_env& e) noexcept {
#if defined(__x86_64__)
  // A flag that somebody else left in the status word would trap at the next instruction once it is unmasked.
  if ((e.control & 0x3f) != 0x3f) asm volatile("fnclex" ::: "memory");
  asm volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(e.mxcsr), "m"(e.control) : "memory");
#else
  asm volatile("msr fpcr, %0" ::"r"(e.fpcr) : "memory");
#endif
}

} // namespace grt::arch
