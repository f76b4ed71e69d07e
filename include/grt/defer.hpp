// grt/defer.hpp - run a function at scope exit.
#pragma once
#include <utility>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {

/// Runs a function when the enclosing scope is left: `defer d{[&] { ... }};`. Several run in the reverse order of their
/// construction. The function must not throw: it is called by a destructor, which is noexcept. It may wait. Go: defer,
/// for a block instead of a function.
template <class F> class defer {
public:
  explicit defer(F f) : f_(std::move(f)) {}
  ~defer() {
    if (armed_) static_cast<void>(f_());
  }
  defer(const defer&) = delete;
  defer& operator=(const defer&) = delete;
  /// The function will not run.
  void dismiss() noexcept { armed_ = false; }

private:
  F f_;
  bool armed_ = true;
};

} // namespace grt

#pragma GCC visibility pop
