// base/spin.hpp - the runtime uses the spin lock of the public headers, grt/detail/spin.hpp.
#pragma once
#include <mutex>

#include <grt/detail/spin.hpp>

namespace grt {
using detail::spin_lock;
using spin_guard = std::lock_guard<spin_lock>;
} // namespace grt
