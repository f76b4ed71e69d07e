// grt/detail/config.hpp - compiler words shared by the public headers. Not API.
#pragma once

#define GRT_DETAIL_LIKELY(x) __builtin_expect(!!(x), 1)
#define GRT_DETAIL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define GRT_DETAIL_NOINLINE __attribute__((noinline))
#define GRT_DETAIL_INLINE inline __attribute__((always_inline))

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
