// grt/version.hpp - the version of the headers, for the preprocessor, and of the library that is linked.
#pragma once

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

/// The version of these headers. CMakeLists.txt reads it from these lines.
#define GRT_VERSION_MAJOR 0
#define GRT_VERSION_MINOR 1
#define GRT_VERSION_PATCH 0

/// One number that can be compared: 0.1.0 is 100, 1.2.3 is 10203.
#define GRT_VERSION (GRT_VERSION_MAJOR * 10000 + GRT_VERSION_MINOR * 100 + GRT_VERSION_PATCH)

namespace grt {

/// The version of the library that the program has been linked with, such as "0.1.0". With a shared library it may
/// differ from the version of the headers in its last number. Any thread, also in a signal handler; never waits.
const char* version() noexcept;

} // namespace grt

#pragma GCC visibility pop
