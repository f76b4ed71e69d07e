#include <string>

#include <gtest/gtest.h>

#include <grt/version.hpp>

namespace {
TEST(Version, LibrarySaysWhatTheHeadersSay) {
  std::string expected = std::to_string(GRT_VERSION_MAJOR) + "." + std::to_string(GRT_VERSION_MINOR) + "." +
                         std::to_string(GRT_VERSION_PATCH);
  EXPECT_EQ(grt::version(), expected);
}

TEST(Version, NumberOrdersVersions) {
#if GRT_VERSION < 100
#error "0.1.0 is the first version"
#endif
  static_assert(GRT_VERSION_MINOR < 100 && GRT_VERSION_PATCH < 100, "two digits each in GRT_VERSION");
  EXPECT_EQ(GRT_VERSION, GRT_VERSION_MAJOR * 10000 + GRT_VERSION_MINOR * 100 + GRT_VERSION_PATCH);
}
} // namespace
