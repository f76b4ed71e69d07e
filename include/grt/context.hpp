// grt/context.hpp - deadlines, cancellation and values that travel down a tree of calls.
#pragma once
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

#include <grt/chan.hpp>
#include <grt/detail/ending.hpp>
#include <grt/go.hpp>
#include <grt/time.hpp>

namespace grt {
namespace detail {

/// One step of the tree, counted; null stands for the background.
struct context_node {
  enum class kind : std::uint8_t { value, shield, cancellable };
  std::atomic<std::uint32_t> refs{1};
  kind what;
  context_node* parent; // counted
  ending* origin;       // the nearest that can end, or null; alive as long as this
  const void* key = nullptr;
  void (*destroy)(context_node*) noexcept = nullptr; // of a value

  context_node(kind k, context_node* p, ending* o) noexcept : what(k), parent(p), origin(o) {} // does not count
};
inline void context_ref(context_node* n) noexcept {
  if (n) n->refs.fetch_add(1, std::memory_order_relaxed);
}
template <class Key> inline char context_key{}; // its address names the key

template <class Key> struct value_node : context_node {
  typename Key::type value;
  value_node(context_node* p, typename Key::type&& v)
      : context_node(kind::value, p, p ? p->origin : nullptr), value(std::move(v)) {
    detail::context_ref(p);
    key = &context_key<Key>;
    destroy = [](context_node* n) noexcept { delete static_cast<value_node*>(n); };
  }
};

void context_unref(context_node* n) noexcept;
context_node* context_make(context_node* parent); // with two references. @throws std::bad_alloc
/// when_ns: on the steady clock. @throws also std::system_error, if the runtime cannot start.
context_node* context_make(context_node* parent, std::int64_t when_ns);
std::int64_t context_in(std::int64_t ns) noexcept; // from now, on that clock
context_node* context_shield(context_node* parent);
void context_cancel(context_node* n) noexcept;
void context_cancel(context_node* n, std::exception_ptr cause) noexcept;

struct after_end; // counted: each stop_func holds one, being registered another
after_end* after_end_make(std::size_t bytes, void (*run)(void*), void (*destroy)(void*), void*& storage);
void after_end_forget_function(after_end* a) noexcept; // its construction threw
void after_end_arm(after_end* a, context_node* n, const attr* with, const void* site, unsigned line);
bool after_end_stop(after_end* a) noexcept;
void after_end_ref(after_end* a) noexcept;
void after_end_unref(after_end* a) noexcept;

struct context_access;
} // namespace detail

/// Says when work should stop, why, and what its request carries. A shared handle, cheap to copy; any thread may use
/// it. Pass it first, as const context&. A default one is background(), and so is a moved-from one. Go:
/// context.Context.
class context {
public:
  context() noexcept = default;
  context(const context& o) noexcept : n_(o.n_) { detail::context_ref(n_); }
  context(context&& o) noexcept : n_(std::exchange(o.n_, nullptr)) {}
  context& operator=(context o) noexcept {
    std::swap(n_, o.n_);
    return *this;
  }
  ~context() {
    if (n_) detail::context_unref(n_);
  }

  /// Closed when the context ends; nil if it never can. The channel is made by the first call. @throws std::bad_alloc.
  /// Go: Done.
  recv_chan<void> done() const;
  /// Empty until it ends, then errc::operation_canceled or errc::timed_out, for good. It is empty as long as done() is
  /// open, and not empty once done() is closed or a call has failed because of this context. Never waits. One load;
  /// three in the moment of the end. Go: Err.
  std::error_code err() const noexcept {
    if (!n_ || !n_->origin || !n_->origin->over()) return {};
    return detail::error_of(n_->origin->state.load(std::memory_order_relaxed));
  }
  /// Null until it ends; then what cancel() was given, here or further up, or else a std::system_error of err(). Go:
  /// context.Cause.
  std::exception_ptr cause() const;
  /// When it ends by itself at the latest. Go: Deadline.
  std::optional<time_point> deadline() const;
  /// What the nearest with_value<Key> holds, or null; good as long as this context. Cost: a step for each level
  /// between. Go: Value.
  template <class Key> const typename Key::type* value() const noexcept {
    for (const detail::context_node* n = n_; n; n = n->parent)
      if (n->key == &detail::context_key<Key>)
        return std::addressof(static_cast<const detail::value_node<Key>*>(n)->value);
    return nullptr;
  }

private:
  explicit context(detail::context_node* n) noexcept : n_(n) {} // takes over a reference
  detail::context_node* n_ = nullptr;
  friend struct detail::context_access;
};

/// Ends its context and all below it, with errc::operation_canceled; the first end counts, later calls do nothing.
/// When a call returns, err() is not empty. Never blocks. A shared handle; call it when the work is over, whichever
/// way: `defer d{cancel};`. A context that nobody cancels lives with its parent. Go: CancelFunc, CancelCauseFunc.
class [[nodiscard]] cancel_func {
public:
  cancel_func() noexcept = default; ///< cancels nothing; so does a moved-from one
  cancel_func(const cancel_func& o) noexcept : n_(o.n_) { detail::context_ref(n_); }
  cancel_func(cancel_func&& o) noexcept : n_(std::exchange(o.n_, nullptr)) {}
  cancel_func& operator=(cancel_func o) noexcept {
    std::swap(n_, o.n_);
    return *this;
  }
  ~cancel_func() {
    if (n_) detail::context_unref(n_);
  }
  void operator()() const noexcept {
    if (n_) detail::context_cancel(n_);
  }
  void operator()(std::exception_ptr cause) const noexcept {
    if (n_) detail::context_cancel(n_, std::move(cause));
  }

private:
  explicit cancel_func(detail::context_node* n) noexcept : n_(n) {}
  detail::context_node* n_ = nullptr;
  friend struct detail::context_access;
};

/// Keeps a function from running after its context has ended. Dropping it stops nothing.
class [[nodiscard]] stop_func {
public:
  stop_func() noexcept = default; ///< false
  stop_func(const stop_func& o) noexcept : a_(o.a_) {
    if (a_) detail::after_end_ref(a_);
  }
  stop_func(stop_func&& o) noexcept : a_(std::exchange(o.a_, nullptr)) {}
  stop_func& operator=(stop_func o) noexcept {
    std::swap(a_, o.a_);
    return *this;
  }
  ~stop_func() {
    if (a_) detail::after_end_unref(a_);
  }
  /// true: this call has stopped it, it will not run. false: it was started or stopped before. Does not wait for it.
  bool operator()() const noexcept { return a_ && detail::after_end_stop(a_); }

private:
  explicit stop_func(detail::after_end* a) noexcept : a_(a) {}
  detail::after_end* a_ = nullptr;
  friend struct detail::context_access;
};

namespace detail {
struct context_access {
  static context_node* node(const context& c) noexcept { return c.n_; }
  static context adopt(context_node* n) noexcept { return context(n); }
  static std::pair<context, cancel_func> pair(context_node* n) noexcept { return {context(n), cancel_func(n)}; }
  static stop_func stop(after_end* a) noexcept { return stop_func(a); }
};

/// As context_make takes it: t itself on the steady clock, to the nanosecond, INT64_MAX being never.
template <class C, class D> std::int64_t deadline_of(const std::chrono::time_point<C, D>& t) {
  if constexpr (std::is_same_v<C, std::chrono::steady_clock>) {
    wide_ns n = detail::to_wide(t.time_since_epoch());
    return n < INT64_MIN ? INT64_MIN : n > INT64_MAX ? INT64_MAX : static_cast<std::int64_t>(n);
  } else {
    return detail::context_in(detail::ns_until(t));
  }
}

template <class T, class... A>
stop_func run_after_end(const attr* with, const context& ctx, const void* site, unsigned line, A&&... args) {
  static_assert(alignof(T) <= 16, "grt::context_after_func: capture over-aligned data by pointer");
  void* storage;
  after_end* a = detail::after_end_make(
      sizeof(T), [](void* p) { static_cast<void>(std::move(*static_cast<T*>(p))()); },
      [](void* p) { static_cast<T*>(p)->~T(); }, storage);
  stop_func stop = context_access::stop(a);
  try {
    ::new (storage) T(std::forward<A>(args)...);
  } catch (...) {
    detail::after_end_forget_function(a);
    throw;
  }
  detail::after_end_arm(a, context_access::node(ctx), with, site, line);
  return stop;
}
} // namespace detail

/// Never ends, carries nothing. Costs nothing. Go: context.Background.
inline context background() noexcept { return {}; }
/// A child that ends when its parent does, or by the second. One allocation. @throws std::bad_alloc. Go: WithCancel,
/// WithCancelCause.
[[nodiscard]] inline std::pair<context, cancel_func> with_cancel(const context& parent) {
  return detail::context_access::pair(detail::context_make(detail::context_access::node(parent)));
}
/// The same, and it ends at t with errc::timed_out; at once if t is past. Under an earlier deadline of the parent's it
/// costs no timer. A t on another clock than steady_clock is translated now. @throws std::bad_alloc; std::system_error
/// the runtime cannot start. Go: WithDeadline.
template <class C, class D>
[[nodiscard]] std::pair<context, cancel_func> with_deadline(const context& parent, std::chrono::time_point<C, D> t) {
  return detail::context_access::pair(
      detail::context_make(detail::context_access::node(parent), detail::deadline_of(t)));
}
/// Go: WithTimeout.
template <class R, class P>
[[nodiscard]] std::pair<context, cancel_func> with_timeout(const context& parent, std::chrono::duration<R, P> d) {
  return detail::context_access::pair(
      detail::context_make(detail::context_access::node(parent), detail::context_in(detail::ns_of(d))));
}
/// Carries v under Key, a tag type with a member `type`: struct user { using type = std::string; }. Go: WithValue.
template <class Key> [[nodiscard]] context with_value(const context& parent, typename Key::type v) {
  return detail::context_access::adopt(new detail::value_node<Key>(detail::context_access::node(parent), std::move(v)));
}
/// The values of its parent, but not its end. Go: WithoutCancel.
[[nodiscard]] inline context without_cancel(const context& parent) {
  return detail::context_access::adopt(detail::context_shield(detail::context_access::node(parent)));
}
/// Runs f, with arguments as grt::go, in a goroutine of its own once ctx has ended; at once if it has. The memory for
/// that goroutine is taken now. The registration keeps ctx until it ends. @throws std::system_error no memory. Go:
/// context.AfterFunc.
template <class F>
requires std::invocable<std::decay_t<F>>
    stop_func context_after_func(const context& ctx, F&& f,
                                 detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  return detail::run_after_end<std::decay_t<F>>(nullptr, ctx, at.file, at.line, std::forward<F>(f));
}
template <class F>
requires std::invocable<std::decay_t<F>>
    stop_func context_after_func(const attr& a, const context& ctx, F&& f,
                                 detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  return detail::run_after_end<std::decay_t<F>>(&a, ctx, at.file, at.line, std::forward<F>(f));
}
template <class F, class A0, class... A>
requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>
    GRT_DETAIL_NOINLINE stop_func context_after_func(const context& ctx, F&& f, A0&& a0, A&&... args) {
  return detail::run_after_end<detail::bound_to<F, A0, A...>>(
      nullptr, ctx, __builtin_return_address(0), 0, std::forward<F>(f), std::forward<A0>(a0), std::forward<A>(args)...);
}
template <class F, class A0, class... A>
requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>
    GRT_DETAIL_NOINLINE stop_func context_after_func(const attr& a, const context& ctx, F&& f, A0&& a0, A&&... args) {
  return detail::run_after_end<detail::bound_to<F, A0, A...>>(
      &a, ctx, __builtin_return_address(0), 0, std::forward<F>(f), std::forward<A0>(a0), std::forward<A>(args)...);
}

} // namespace grt
