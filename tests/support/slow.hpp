// tests/support/slow.hpp - what kind of build this is, for tests that cost ten times more or know better under a
// sanitizer.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GRT_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GRT_TEST_SANITIZED 1
#endif
#endif
#if defined(GRT_TEST_SANITIZED) && !defined(GRT_TEST_SLOW)
#define GRT_TEST_SLOW 1 // also set for emulated builds
#endif

/// Fewer rounds where each costs ten times more.
inline int scaled(int n) {
#ifdef GRT_TEST_SLOW
  return n / 20 + 1;
#else
  return n;
#endif
}

/// Of what a program that dies has said, as a regular expression: qemu-user adds a line of its own.
#if defined(GRT_TEST_EMULATED)
#define GRT_END_OF_OUTPUT "(\n?qemu: [^\n]*\n)*$"
#else
#define GRT_END_OF_OUTPUT "$"
#endif
