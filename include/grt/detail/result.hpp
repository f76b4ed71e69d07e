// grt/detail/result.hpp - what a function that ran as a goroutine leaves behind. Not API.
#pragma once
#include <cxxabi.h>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <grt/detail/config.hpp>

namespace grt::detail {

/// A value, an exception, or neither: grt::exit() ended it.
template <class R> class result {
  struct nothing {};
  using stored = std::conditional_t<std::is_void_v<R>, nothing,
                                    std::conditional_t<std::is_reference_v<R>, std::remove_reference_t<R>*, R>>;

public:
  /// Calls f, keeps what comes of it, then calls done: after that, neither *this nor f is touched. An exit goes on.
  template <class F, class D> void fill(F&& f, D&& done) {
    try {
      if constexpr (std::is_void_v<R>) {
        f();
        value_.emplace();
      } else if constexpr (std::is_reference_v<R>) {
        R r = f();
        value_ = std::addressof(r);
      } else {
        value_.emplace(f());
      }
    } catch (abi::__forced_unwind&) {
      done();
      throw;
    } catch (...) {
      error_ = std::current_exception();
    }
    done();
  }
  /// Once. @throws what f threw; std::logic_error(why_none) f was to return something and was ended.
  R take(const char* why_none) {
    if (error_) std::rethrow_exception(std::move(error_));
    if constexpr (!std::is_void_v<R>) {
      if (!value_) throw std::logic_error(why_none);
      if constexpr (std::is_reference_v<R>) return static_cast<R>(**value_);
      else return std::move(*value_);
    }
  }
  void clear() noexcept {
    value_.reset();
    error_ = nullptr;
  }

private:
  std::optional<stored> value_;
  std::exception_ptr error_;
};

} // namespace grt::detail
