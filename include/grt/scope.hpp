// grt/scope.hpp - goroutines that do not outlive a block (structured concurrency).
#pragma once
#include <concepts>
#include <exception>
#include <type_traits>
#include <utility>

#include <grt/context.hpp>
#include <grt/group.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {

/// A set of goroutines that ends with a block. The destructor waits for all goroutines that go() has started. The first
/// exception that leaves one of them ends context(), and the destructor rethrows it. If the block itself is left by an
/// exception, the destructor ends context(), waits for all goroutines, drops their exceptions, and the block's
/// exception propagates. Make a scope only as a local variable, because its destructor may throw.
class scope {
public:
  /// context() can end only through this scope. @throws std::bad_alloc.
  scope() : scope(grt::background()) {}
  /// context() is a child of `parent`. @throws std::bad_alloc.
  explicit scope(const grt::context& parent) : core_(parent), unwinding_(std::uncaught_exceptions()) {}
  /// Waits for the goroutines. @throws the first exception of one, unless the block is left by another exception.
  ~scope() noexcept(false) {
    bool thrown = std::uncaught_exceptions() > unwinding_;
    if (thrown) core_.cancel();
    core_.join();
    core_.cancel();
    if (std::exception_ptr e = core_.error(); e && !thrown) std::rethrow_exception(std::move(e));
  }
  /// Runs f(args...) in a new goroutine, as grt::go does. Any goroutine or thread may call it; while the destructor
  /// waits, only goroutines of the scope may. @throws as grt::go; nothing was started then.
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
  /// Returns the scope's context. It ends when a goroutine throws (that exception is its cause), at the end of the
  /// scope, or when the parent ends.
  grt::context context() const { return core_.ctx(); }

private:
  detail::group_core core_;
  int unwinding_;
};

} // namespace grt

#pragma GCC visibility pop
