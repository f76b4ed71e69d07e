// grt/scope.hpp - goroutines that do not outlive a block.
#pragma once
#include <concepts>
#include <exception>
#include <type_traits>
#include <utility>

#include <grt/context.hpp>
#include <grt/group.hpp>

namespace grt {

/// Leaving the block joins all that go() started in it. The first exception of one ends context(), and is rethrown by
/// the destructor; if the block is left by an exception already, context() ends, all are joined, and that exception
/// goes on alone. So a scope may be a local variable only, and the block's end may throw. Structured concurrency.
class scope {
public:
  scope() : scope(grt::background()) {}
  /// context() is a child of `parent`. @throws std::bad_alloc.
  explicit scope(const grt::context& parent) : core_(parent), unwinding_(std::uncaught_exceptions()) {}
  ~scope() noexcept(false) {
    bool thrown = std::uncaught_exceptions() > unwinding_;
    if (thrown) core_.cancel();
    core_.join();
    core_.cancel();
    if (std::exception_ptr e = core_.error(); e && !thrown) std::rethrow_exception(std::move(e));
  }
  /// Runs f in a goroutine, with arguments as grt::go. Any goroutine may call it, also one of the scope's own. @throws
  /// as grt::go.
  template <class F>
  requires std::invocable<std::decay_t<F>>
  void go(F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
    core_.start<std::decay_t<F>>(nullptr, nullptr, at.file, at.line, std::forward<F>(f));
  }
  template <class F>
  requires std::invocable<std::decay_t<F>>
  void go(const attr& a, F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
    core_.start<std::decay_t<F>>(&a, nullptr, at.file, at.line, std::forward<F>(f));
  }
  template <class F, class A0, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...> GRT_DETAIL_NOINLINE void
  go(F&& f, A0&& a0, A&&... args) {
    core_.start<detail::bound_to<F, A0, A...>>(nullptr, nullptr, __builtin_return_address(0), 0, std::forward<F>(f),
                                               std::forward<A0>(a0), std::forward<A>(args)...);
  }
  template <class F, class A0, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...> GRT_DETAIL_NOINLINE void
  go(const attr& a, F&& f, A0&& a0, A&&... args) {
    core_.start<detail::bound_to<F, A0, A...>>(&a, nullptr, __builtin_return_address(0), 0, std::forward<F>(f),
                                               std::forward<A0>(a0), std::forward<A>(args)...);
  }
  /// Ends with the first exception, which is its cause, and with the scope.
  grt::context context() const { return core_.ctx(); }

private:
  detail::group_core core_;
  int unwinding_;
};

} // namespace grt
