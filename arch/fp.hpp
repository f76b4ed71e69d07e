// arch/fp.hpp - saves and loads the floating-point environment of a goroutine that was started with attr::fp_env.
//
//           belongs to the goroutine                         stays with the thread
//   x86-64  MXCSR with its sticky flags, x87 control word    x87 status word, which holds the x87's sticky flags
//   AArch64 FPCR                                             FPSR, which holds the sticky flags
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
  // If an exception is unmasked (0x3f: the six exception masks), clear the status word first. A flag that another
  // goroutine left there would trap at the next x87 instruction.
  if ((e.control & 0x3f) != 0x3f) asm volatile("fnclex" ::: "memory");
  asm volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(e.mxcsr), "m"(e.control) : "memory");
#else
  asm volatile("msr fpcr, %0" ::"r"(e.fpcr) : "memory");
#endif
}

} // namespace grt::arch
