// tests/support/seed.hpp - random programs: many seeds, or the one that GRT_TEST_SEED names.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

/// What a hang prints beside the test's name.
inline char seed_note[48] = "";

/// f(seed), `n` times, until one fails; then the seed is printed.
template <class F> void for_seeds(int n, F f) {
  const char* only = std::getenv("GRT_TEST_SEED");
  auto first = only ? static_cast<std::uint32_t>(std::strtoul(only, nullptr, 0)) : std::random_device{}();
  for (std::uint32_t i = 0; i < (only ? 1u : static_cast<std::uint32_t>(n)); i++) {
    std::snprintf(seed_note, sizeof seed_note, " with GRT_TEST_SEED=%u", first + i);
    f(first + i);
    if (testing::Test::HasFailure()) {
      std::fprintf(stderr, "failed%s\n", seed_note);
      break;
    }
  }
  seed_note[0] = 0;
}
