// base/variant.cpp - defines a symbol that names the sanitizer this library was built with. A program that was built
// with another one fails to link. See grt/detail/config.hpp.
#include "base/san.hpp"

#pragma GCC visibility push(default) // programs refer to it from grt/detail/config.hpp
extern "C" {
#if GRT_ASAN
extern const char grt_built_with_fsanitize_address = 0;
#elif GRT_TSAN
extern const char grt_built_with_fsanitize_thread = 0;
#else
extern const char grt_built_without_fsanitize = 0;
#endif
}
#pragma GCC visibility pop
