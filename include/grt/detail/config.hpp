// grt/detail/config.hpp - compiler attributes and sanitizer detection for the public headers. Not API.
#pragma once

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

#define GRT_DETAIL_LIKELY(x) __builtin_expect(!!(x), 1)
#define GRT_DETAIL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define GRT_DETAIL_NOINLINE __attribute__((noinline))
#define GRT_DETAIL_INLINE inline __attribute__((always_inline))

// The definition stays in the object file. Linkers that support SHF_GNU_RETAIN also keep it under --gc-sections.
#if defined(__has_attribute) && __has_attribute(retain)
#define GRT_DETAIL_KEPT __attribute__((used, retain))
#else
#define GRT_DETAIL_KEPT __attribute__((used))
#endif

#if defined(__SANITIZE_THREAD__)
#define GRT_DETAIL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GRT_DETAIL_TSAN 1
#endif
#endif
#ifndef GRT_DETAIL_TSAN
#define GRT_DETAIL_TSAN 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define GRT_DETAIL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GRT_DETAIL_ASAN 1
#endif
#endif
#ifndef GRT_DETAIL_ASAN
#define GRT_DETAIL_ASAN 0
#endif

#if GRT_DETAIL_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

// A program and the libgrt that it links must be built with the same -fsanitize, because the inline code differs.
// Each variant of libgrt defines one of the three symbols below, and the program refers to the one that matches its
// own flags. If the two differ, linking fails with an undefined reference that names the mismatch. The pointers have
// different names, so that in a mixed program one object's reference does not replace another's.
#ifndef GRT_BUILDING
#if GRT_DETAIL_ASAN
extern "C" const char grt_built_with_fsanitize_address;
namespace grt::detail {
GRT_DETAIL_KEPT inline const char* const links_address = &grt_built_with_fsanitize_address;
}
#elif GRT_DETAIL_TSAN
extern "C" const char grt_built_with_fsanitize_thread;
namespace grt::detail {
GRT_DETAIL_KEPT inline const char* const links_thread = &grt_built_with_fsanitize_thread;
}
#else
extern "C" const char grt_built_without_fsanitize;
namespace grt::detail {
GRT_DETAIL_KEPT inline const char* const links_plain = &grt_built_without_fsanitize;
}
#endif
#endif

#pragma GCC visibility pop
