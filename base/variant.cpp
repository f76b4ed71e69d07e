// base/variant.cpp - which libgrt this is, for the linker. See grt/detail/config.hpp.
#include "base/san.hpp"

extern "C" {
#if GRT_ASAN
extern const char grt_built_with_fsanitize_address = 0;
#elif GRT_TSAN
extern const char grt_built_with_fsanitize_thread = 0;
#else
extern const char grt_built_without_fsanitize = 0;
#endif
}
