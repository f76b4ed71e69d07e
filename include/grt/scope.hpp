// grt/scope.hpp - goroutines that do not outlive a block.
#pragma once
#include <exception>
#include <utility>

#include <grt/context.hpp>
#include <grt/group.hpp>

namespace grt {

/// Leaving the block joins all that go() started in it. The first exception of one ends context(), and is rethrown by
/// the destructor; if the block is left by an exception already, context() ends, all are joined, and that exception
/// goes on alone. So a scope may be a local variable only, and the block's end may throw. Structured concurrency.
class scope {
public:
  scope() : scope(background()) {}
  /// context() is a child of `parent`. @throws std::bad_alloc.
  explicit scope(const grt::context& parent) : core_(parent), unwinding_(std::uncaught_exceptions()) {}
  ~scope() noexcept(false) {
    bool thrown = std::uncaught_exceptions() > unwinding_;
    if (thrown) core_.cancel();
    core_.join();
    core_.cancel();
    if (std::exception_ptr e = core_.error(); e && !thrown) std::rethrow_exception(std::move(e));
  }
  /// Any goroutine, also one of the scope's own. @throws as grt::go.
  template <class F> void go(F&& f, const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    core_.start(nullptr, nullptr, std::forward<F>(f), file, line);
  }
  template <class F>
  void go(const attr& a, F&& f, const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    core_.start(&a, nullptr, std::forward<F>(f), file, line);
  }
  /// Ends with the first exception, which is its cause, and with the scope.
  grt::context context() const { return core_.ctx(); }

private:
  detail::group_core core_;
  int unwinding_;
};

} // namespace grt
