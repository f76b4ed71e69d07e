// grt/detail/result.hpp - the result of a function that runs as a goroutine. Not API.
#pragma once
#include <cxxabi.h>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <grt/detail/config.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::detail {

/// Holds a value, an exception, or neither. Neither means that grt::exit() ended the function.
template <class R> class result {
  struct nothing {};
  using stored = std::conditional_t<std::is_void_v<R>, nothing,
                                    std::conditional_t<std::is_reference_v<R>, std::remove_reference_t<R>*, R>>;

public:
  /// Calls f, stores its value or exception, then calls done. Does not access *this or f after that call, which may
  /// lead to the destruction of both. If grt::exit() ends f, calls done and continues the unwind.
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
  /// Returns the value. Call it at most once. @throws what f threw; std::logic_error(why_none) if grt::exit() ended f
  /// and R is not void.
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

#pragma GCC visibility pop
