// base/version.cpp - see grt/version.hpp.
#include <grt/version.hpp>

#define GRT_TEXT_OF(number) #number
#define GRT_TEXT(number) GRT_TEXT_OF(number)

const char* grt::version() noexcept {
  return GRT_TEXT(GRT_VERSION_MAJOR) "." GRT_TEXT(GRT_VERSION_MINOR) "." GRT_TEXT(GRT_VERSION_PATCH);
}
