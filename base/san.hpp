// base/san.hpp - what the runtime tells the sanitizers and Valgrind. All of it is empty in a plain build.
//
// ASan. start_switch is called before every change of stack and finish_switch after it. The save pointer is null when
// the old stack will not be resumed. A window is poisoned while no goroutine is bound to it, so that the first use of a
// pointer into a dead goroutine's stack is found. The pages of the window are dropped as well, because a stale pointer
// in them could hide a leak. Both happen on g0, after the last owner has left the window: in these builds every
// goroutine ends by way of g0. Under Valgrind the same is done with NOACCESS instead of poison.
//
// LeakSanitizer. G slabs, Ps, Ms and windows are root regions. So is the fake stack of a parked goroutine, which is the
// copy of its frames that detect_stack_use_after_return makes.
//
// TSan. Each goroutine has one fiber, made at its first run and switched to with the flag no_sync. (Flag 0 would order
// everything that runs on one thread, and so hide real races.) Therefore every hand-over is annotated with a release
// and an acquire.
#pragma once
#include <cstddef>
#include <sys/mman.h>

#include <grt/detail/config.hpp>

#include "base/check.hpp"

#define GRT_ASAN GRT_DETAIL_ASAN
#define GRT_TSAN GRT_DETAIL_TSAN
#define GRT_SANITIZED (GRT_ASAN || GRT_TSAN)

// In a TSan build sched/, stack/, arch/ and base/ are compiled without -fsanitize=thread. The compiler does not define
// its macro there, so the build defines GRT_BUILD_TSAN.
#if defined(GRT_BUILD_TSAN) && !GRT_DETAIL_TSAN
#undef GRT_TSAN
#undef GRT_SANITIZED
#define GRT_TSAN 1
#define GRT_SANITIZED 1
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

#if GRT_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** save, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* save, const void** bottom, std::size_t* size);
void __asan_poison_memory_region(const volatile void* p, std::size_t n);
void __asan_unpoison_memory_region(const volatile void* p, std::size_t n);
void __lsan_register_root_region(const void* p, std::size_t n);
void __lsan_unregister_root_region(const void* p, std::size_t n);
}
#endif
#if GRT_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

#if GRT_SANITIZED || !__has_include(<valgrind/memcheck.h>)
#undef GRT_VALGRIND
#define GRT_VALGRIND 0
#elif !defined(GRT_VALGRIND) // the build may say 0: GRT_VALGRIND=OFF
#define GRT_VALGRIND 1
#endif
#if GRT_VALGRIND
#include <valgrind/memcheck.h>
#endif

namespace grt::san {

/// Returns whether the process runs under Valgrind; called while the runtime starts. If Valgrind's header was missing
/// at build time the answer is always false, and a run under Valgrind then has little address space.
inline bool on_valgrind() noexcept {
#if GRT_VALGRIND
  return RUNNING_ON_VALGRIND;
#else
  return false;
#endif
}

/// Registers a window that may become a stack. Valgrind searches registered stacks one by one, so keep the number of
/// windows in a run under Valgrind below 10,000.
inline void register_stack([[maybe_unused]] char* low, [[maybe_unused]] char* high) noexcept {
#if GRT_VALGRIND
  (void)VALGRIND_STACK_REGISTER(low, high - 1);
#endif
}
/// Call when a window gets an owner. For the owner its contents are undefined. `valgrind`: the result of on_valgrind().
inline void open_window([[maybe_unused]] char* low, [[maybe_unused]] char* top, [[maybe_unused]] char* high,
                        [[maybe_unused]] bool valgrind) noexcept {
#if GRT_ASAN
  __asan_unpoison_memory_region(low, static_cast<std::size_t>(high - low));
#elif GRT_VALGRIND
  if (valgrind) (void)VALGRIND_MAKE_MEM_UNDEFINED(low, top - low);
#endif
}
/// Call when the owner of a window has left it. The lowest page keeps its bytes, because it may hold a canary.
inline void close_window([[maybe_unused]] char* low, [[maybe_unused]] char* high,
                         [[maybe_unused]] bool valgrind) noexcept {
#if GRT_ASAN
  madvise(low + 4096, static_cast<std::size_t>(high - low) - 4096, MADV_DONTNEED);
  __asan_poison_memory_region(low, static_cast<std::size_t>(high - low));
#elif GRT_VALGRIND
  if (valgrind) (void)VALGRIND_MAKE_MEM_NOACCESS(low, high - low);
#endif
}

inline void release([[maybe_unused]] void* p) noexcept {
#if GRT_TSAN
  __tsan_release(p);
#endif
}
inline void acquire([[maybe_unused]] void* p) noexcept {
#if GRT_TSAN
  __tsan_acquire(p);
#endif
}
/// TSan: makes it forget what earlier goroutines did on this stack, so that they are no party to a race. An mmap that
/// TSan intercepts while writes are ignored clears the shadow memory. Rejected: acquire and release, which would order
/// each owner of a window after the previous one, and so hide races between them.
inline void forget_accesses([[maybe_unused]] char* low, [[maybe_unused]] char* high) noexcept {
#if GRT_TSAN
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  std::size_t n = static_cast<std::size_t>(high - low);
  mmap(low, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  madvise(low, n, MADV_NOHUGEPAGE);
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
}
/// TSan: maps memory without counting that as a write by the caller. For memory whose accesses the runtime orders in
/// ways that TSan does not see.
inline void* map_quietly(std::size_t n, int prot = PROT_READ | PROT_WRITE, int flags = 0) noexcept {
#if GRT_TSAN
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
  void* p = mmap(nullptr, n, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
#if GRT_TSAN
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
  return p;
}
inline void root_region([[maybe_unused]] const void* p, [[maybe_unused]] std::size_t n) noexcept {
#if GRT_ASAN
  __lsan_register_root_region(p, n);
#endif
}

#if GRT_ASAN
/// Returns the size of the mapping at whose start ASan's fake stack for a stack of `bytes` lies. The fake stack is
/// opaque. It consists of a page, flags, and for each of 11 frame sizes as many bytes as the stack has (rounded up to a
/// power of two between 64 KB and 1 MB). Source: compiler-rt's asan_fake_stack.h, unchanged since 2013.
inline std::size_t fake_stack_bytes(std::size_t bytes) noexcept {
  unsigned log = 16;
  while (log < 20 && (std::size_t{1} << log) < bytes) log++;
  return 4096 + (std::size_t{2} << (log - 6)) + (std::size_t{11} << log);
}
#endif

#if GRT_TSAN
// The TSan library of gcc up to 12 has 8,192 slots for threads and fibers, and keeps 64 of them for recently ended
// ones. If more are needed it aborts with a check failure that tells a user nothing. 8,000 leaves slots for threads.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
inline constexpr unsigned fibers_most = 8000;
#else
inline constexpr unsigned fibers_most = ~0u;
#endif
inline unsigned fibers = 0; // of goroutines, now

inline void* make_fiber() noexcept {
  if (__atomic_add_fetch(&fibers, 1, __ATOMIC_RELAXED) > fibers_most)
    fatal("ThreadSanitizer of gcc allows 8,128 fibers and threads at once: build with clang, or keep fewer goroutines. "
          "Goroutines that have started: ",
          fibers_most + 1);
  return __tsan_create_fiber(0);
}
inline void destroy_fiber(void* fiber) noexcept {
  __tsan_destroy_fiber(fiber);
  __atomic_sub_fetch(&fibers, 1, __ATOMIC_RELAXED);
}
#endif

} // namespace grt::san
