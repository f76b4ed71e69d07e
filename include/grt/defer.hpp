// grt/defer.hpp - run something at scope exit.
#pragma once
#include <utility>

namespace grt {

/// defer d{[&] { ... }}; runs at scope exit, last made first; d.dismiss() forgets it. Go: defer, for a block instead of
/// a function.
template <class F> class defer {
public:
  explicit defer(F f) : f_(std::move(f)) {}
  ~defer() {
    if (armed_) static_cast<void>(f_());
  }
  defer(const defer&) = delete;
  defer& operator=(const defer&) = delete;
  void dismiss() noexcept { armed_ = false; }

private:
  F f_;
  bool armed_ = true;
};

} // namespace grt
