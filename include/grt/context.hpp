// grt/context.hpp - deadlines, cancellation and request values, passed down a tree of calls.
//
// A context may end: when its cancel function is called, when its deadline passes, or when its parent ends. Every
// waiting call of the library has an overload that takes a context and throws std::system_error once it has ended.
// Any goroutine and any thread may call any function here, and none of them waits.
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

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
namespace detail {

/// A node of the tree, with a reference count. A null pointer stands for the background.
struct context_node {
  enum class kind : std::uint8_t { value, shield, cancellable };
  std::atomic<std::uint32_t> refs{1};
  kind what;
  context_node* parent;      // this node holds a reference to it
  ending* origin;            // the nearest node upwards, or this one, that can end; null if none; lives as long as this
  const void* key = nullptr; // of a value: the address of its context_key
  void (*destroy)(context_node*) noexcept = nullptr; // of a value; else null

  context_node(kind k, context_node* p, ending* o) noexcept : what(k), parent(p), origin(o) {} // adds no reference to p
};
inline void context_ref(context_node* n) noexcept {
  if (n) n->refs.fetch_add(1, std::memory_order_relaxed);
}
template <class Key> inline char context_key{}; // its address identifies the key

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
/// Makes a cancellable node with two references: the context's and the cancel_func's. @throws std::bad_alloc.
context_node* context_make(context_node* parent);
/// The same with a deadline, in ns on the steady clock. @throws also std::system_error: the runtime cannot start.
context_node* context_make(context_node* parent, std::int64_t when_ns);
std::int64_t context_in(std::int64_t ns) noexcept;  // the deadline `ns` from now, on the steady clock
context_node* context_shield(context_node* parent); // a node that does not end when its parent does
void context_cancel(context_node* n) noexcept;
void context_cancel(context_node* n, std::exception_ptr cause) noexcept;

/// The registration of a function for context_after_func, with a reference count: each stop_func holds a reference, and
/// so does the prepared goroutine.
struct after_end;
after_end* after_end_make(std::size_t bytes, void (*run)(void*), void (*destroy)(void*), void*& storage);
void after_end_forget_function(after_end* a) noexcept; // the constructor of the function threw
void after_end_arm(after_end* a, context_node* n, const attr* with, const void* site, unsigned line);
bool after_end_stop(after_end* a) noexcept;
void after_end_ref(after_end* a) noexcept;
void after_end_unref(after_end* a) noexcept;

struct context_access;
} // namespace detail

/// Tells when work should stop and why, and carries the values of a request. The object is a shared handle, and copying
/// it costs an atomic increment. By convention it is a function's first parameter, `const context&`. A
/// default-constructed or moved-from context is background(). Go: context.Context.
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

  /// Returns a channel that is closed when the context ends, or nil if the context can never end. The first call
  /// allocates the channel. @throws std::bad_alloc. Go: Done.
  recv_chan<void> done() const;
  /// Returns an empty code until the context ends, and errc::operation_canceled or errc::timed_out from then on. The
  /// code is empty as long as done() is open. It is not empty once done() is closed or a call has failed because of
  /// this context. Cost: one atomic load before the end, two after it, at most four while the context is being ended.
  /// Go: Err.
  std::error_code err() const noexcept {
    if (!n_ || !n_->origin || !n_->origin->over()) return {};
    return detail::error_of(n_->origin->state.load(std::memory_order_relaxed));
  }
  /// Returns null until the context ends. Then returns the cause that was passed to the cancel function, of this
  /// context or of the ancestor that ended it. If no cause was passed, returns a std::system_error with the code err().
  /// Go: context.Cause.
  std::exception_ptr cause() const;
  /// Returns the time at which the context ends at the latest, or nullopt if there is none. It is the earliest deadline
  /// of the context and of the ancestors that can end it. Go: Deadline.
  std::optional<time_point> deadline() const;
  /// Returns the value of the nearest with_value<Key> upwards, or null if there is none. The pointer is valid as long
  /// as this context. Cost: one step for each context in between. Go: Value.
  template <class Key> const typename Key::type* value() const noexcept {
    for (const detail::context_node* n = n_; n; n = n->parent)
      if (n->key == &detail::context_key<Key>)
        return std::addressof(static_cast<const detail::value_node<Key>*>(n)->value);
    return nullptr;
  }

private:
  explicit context(detail::context_node* n) noexcept : n_(n) {} // takes over a reference to n
  detail::context_node* n_ = nullptr;
  friend struct detail::context_access;
};

/// Ends its context and all descendants, with errc::operation_canceled. If the context has ended already, a call has no
/// effect. When a call returns, err() is not empty. Never waits. The object is a shared handle. Call it when the work
/// is over, however it ends: `defer d{cancel};`. A context that is never cancelled stays registered with its parent
/// until the parent ends, or until the last handle to it, and to its done() channel, is gone. Go: CancelFunc,
/// CancelCauseFunc.
class [[nodiscard]] cancel_func {
public:
  cancel_func() noexcept = default; ///< cancels nothing, like a moved-from one
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
  /// Also sets what context::cause() returns.
  void operator()(std::exception_ptr cause) const noexcept {
    if (n_) detail::context_cancel(n_, std::move(cause));
  }

private:
  explicit cancel_func(detail::context_node* n) noexcept : n_(n) {}
  detail::context_node* n_ = nullptr;
  friend struct detail::context_access;
};

/// Cancels the registration of a context_after_func. The object is a shared handle. Destroying it stops nothing.
class [[nodiscard]] stop_func {
public:
  stop_func() noexcept = default; ///< a call returns false, as for a moved-from one
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
  /// Returns true if this call has stopped the function: it will not run. Returns false if the function was started or
  /// stopped before; does not wait for a function that runs.
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

/// Converts t to a deadline for context_make(), in ns on the steady clock, where INT64_MAX means never. A t on another
/// clock is translated by the time left until t now.
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

/// Returns a context that never ends and has no values. Allocates nothing. Go: context.Background.
inline context background() noexcept { return {}; }
/// Returns a child context and its cancel function. The child ends when its parent ends or when the function is called.
/// Cost: one allocation. @throws std::bad_alloc. Go: WithCancel, WithCancelCause.
[[nodiscard]] inline std::pair<context, cancel_func> with_cancel(const context& parent) {
  return detail::context_access::pair(detail::context_make(detail::context_access::node(parent)));
}
/// As with_cancel(), but the child also ends at t, with errc::timed_out; at once if t has passed. If the parent's
/// deadline is not later than t, no timer is set. A t on a clock other than steady_clock is translated to steady_clock
/// once, during this call. Starts the runtime. @throws std::bad_alloc; std::system_error the runtime cannot start.
/// Go: WithDeadline.
template <class C, class D>
[[nodiscard]] std::pair<context, cancel_func> with_deadline(const context& parent, std::chrono::time_point<C, D> t) {
  return detail::context_access::pair(
      detail::context_make(detail::context_access::node(parent), detail::deadline_of(t)));
}
/// As with_deadline(), with a deadline d from now. Go: WithTimeout.
template <class R, class P>
[[nodiscard]] std::pair<context, cancel_func> with_timeout(const context& parent, std::chrono::duration<R, P> d) {
  return detail::context_access::pair(
      detail::context_make(detail::context_access::node(parent), detail::context_in(detail::ns_of(d))));
}
/// Returns a child that holds v under Key and ends when its parent ends. Key is a tag type that names the type of the
/// value: `struct user { using type = std::string; };`. Cost: one allocation. @throws std::bad_alloc; what moving v
/// throws. Go: WithValue.
template <class Key> [[nodiscard]] context with_value(const context& parent, typename Key::type v) {
  return detail::context_access::adopt(new detail::value_node<Key>(detail::context_access::node(parent), std::move(v)));
}
/// Returns a child that has the values of its parent but never ends. Cost: one allocation. @throws std::bad_alloc.
/// Go: WithoutCancel.
[[nodiscard]] inline context without_cancel(const context& parent) {
  return detail::context_access::adopt(detail::context_shield(detail::context_access::node(parent)));
}
/// Runs f(args...) in a goroutine of its own when ctx ends, or at once if ctx has ended; never if ctx cannot end. f and
/// its arguments are copied now, as by grt::go, and the goroutine's memory is allocated now. The registration holds a
/// reference to ctx until f has run or was stopped. The returned function stops it. @throws std::bad_alloc and
/// std::system_error no memory; what copying f throws; with an attr, what grt::go throws for it. Go: context.AfterFunc.
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

#pragma GCC visibility pop
