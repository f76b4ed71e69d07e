// grt/detail/bad_count.hpp - the error of a count that is out of range. Not API.
#pragma once

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::detail {
/// @throws std::invalid_argument
[[noreturn]] void throw_bad_count();
} // namespace grt::detail

#pragma GCC visibility pop
