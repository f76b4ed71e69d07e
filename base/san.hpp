// base/san.hpp - what the sanitizers and Valgrind must be told. All empty in a plain build.
//
// ASan: start_switch before and finish_switch after every change of stack; a null save pointer when the old stack will
// not be resumed. A window is poisoned while nobody is bound to it, so that a pointer to a dead goroutine's stack is
// found at its first use; its pages go too, lest a stale pointer in them hide a leak. All of it on g0, when its last
// owner has left: these builds end every goroutine by way of g0, as does Valgrind's, where NOACCESS stands for poison.
// LeakSanitizer: G slabs, Ps, Ms and windows are root regions; so is the fake stack of a parked goroutine (the copy of
// its frames that detect_stack_use_after_return makes). TSan: one fiber per goroutine, made at its first run, switched
// with no_sync (flag 0 would order everything on one thread and hide real races), so every hand-over is annotated by
// release and acquire.
#pragma once
#include <cstddef>
#include <sys/mman.h>

#include <grt/detail/config.hpp>

#include "base/check.hpp"

#define GRT_ASAN GRT_DETAIL_ASAN
#define GRT_TSAN GRT_DETAIL_TSAN
#define GRT_SANITIZED (GRT_ASAN || GRT_TSAN)

// sched/, stack/, arch/ and base/ are compiled without -fsanitize=thread in such a build, so the compiler does not say
// it: the build does.
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

/// Asked while starting. Without Valgrind's header at build time the answer is no, and a run under it finds little
/// address space.
inline bool on_valgrind() noexcept {
#if GRT_VALGRIND
  return RUNNING_ON_VALGRIND;
#else
  return false;
#endif
}

/// A window that may become a stack. Valgrind searches them one by one: keep runs under 10,000.
inline void register_stack([[maybe_unused]] char* low, [[maybe_unused]] char* high) noexcept {
#if GRT_VALGRIND
  (void)VALGRIND_STACK_REGISTER(low, high - 1);
#endif
}
/// A window gets an owner, who finds nothing in it. `valgrind`: what on_valgrind() said.
inline void open_window([[maybe_unused]] char* low, [[maybe_unused]] char* top, [[maybe_unused]] char* high,
                        [[maybe_unused]] bool valgrind) noexcept {
#if GRT_ASAN
  __asan_unpoison_memory_region(low, static_cast<std::size_t>(high - low));
#elif GRT_VALGRIND
  if (valgrind) (void)VALGRIND_MAKE_MEM_UNDEFINED(low, top - low);
#endif
}
/// Its owner has left. The lowest page may hold a canary: it keeps its bytes.
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
/// TSan: what earlier goroutines did on this stack is no party to a race. mmap, intercepted while writes are ignored,
/// clears the shadow; acquire and release instead would order one owner of a window after the other, and hide their
/// races.
inline void forget_accesses([[maybe_unused]] char* low, [[maybe_unused]] char* high) noexcept {
#if GRT_TSAN
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  std::size_t n = static_cast<std::size_t>(high - low);
  mmap(low, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  madvise(low, n, MADV_NOHUGEPAGE);
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
}
/// TSan: memory that the runtime orders by means TSan does not see is nobody's write when it is mapped.
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
/// How long the mapping is that a fake stack (ASan's, opaque) for a stack of `bytes` begins: a page, flags, and as many
/// bytes for each of 11 sizes of frame. compiler-rt's asan_fake_stack.h, unchanged since 2013.
inline std::size_t fake_stack_bytes(std::size_t bytes) noexcept {
  unsigned log = 16;
  while (log < 20 && (std::size_t{1} << log) < bytes) log++;
  return 4096 + (std::size_t{2} << (log - 6)) + (std::size_t{11} << log);
}
#endif

#if GRT_TSAN
// Up to gcc 12 its library has 8,192 places for threads and fibers, 64 of them kept for the lately dead, and dies of
// one more by a check that tells a user nothing.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
inline constexpr unsigned fibers_most = 8000;
#else
inline constexpr unsigned fibers_most = ~0u;
#endif
inline unsigned fibers = 0; // of goroutines

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
