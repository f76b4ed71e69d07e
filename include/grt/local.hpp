// grt/local.hpp - goroutine-local variables.
#pragma once
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include <grt/detail/config.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
namespace detail {

struct local_key {
  std::uint32_t slot;   // an index; reused after the local is destroyed
  std::uint64_t serial; // never reused, so that a value of the slot's former owner is not found
};
struct local_node {
  local_node* older;
  void (*destroy)(local_node*) noexcept;
  local_key key;
};
template <class T> struct local_value : local_node {
  T value;
  explicit local_value(const std::function<T()>& make) : value(make()) {}
  local_value() : value() {}
};
local_key local_open(); // throws std::length_error
void local_close(local_key k) noexcept;
local_node* local_find(local_key k) noexcept; // null if the calling goroutine or thread has no value yet
void local_room(local_key k);                 // makes room for local_add(); throws std::bad_alloc
void local_add(local_node* n) noexcept;       // call it after local_room()

} // namespace detail

/// A variable of which each goroutine has its own value, as each thread has of a `thread_local` variable. A thread that
/// grt did not create has its own value, too. A `local` is usually a static object. Any goroutine and any thread may
/// use it. It does not start the runtime and never waits. At most 65,536 can exist at a time. Cost: about 3 ns; the
/// first use in a goroutine allocates.
///
/// The value is constructed at the first use in a goroutine. When the goroutine ends, its values are destroyed, the
/// newest first. A destructor may use other locals: values that it makes are destroyed in a further round. After 4
/// rounds the rest is leaked, as POSIX does for thread-specific data. If the `local` itself is destroyed first, its
/// values are still destroyed when their goroutines end.
///
///     static grt::local<std::mt19937> dice{[] { return std::mt19937(std::random_device()()); }};
///     int roll() { return (*dice)() % 6 + 1; }
template <class T> class local {
  static_assert(std::is_object_v<T> && !std::is_array_v<T> && !std::is_const_v<T>,
                "grt::local<T>: T is an object type");

public:
  /// Values are value-initialised. @throws std::length_error 65,536 locals exist.
  local() requires std::default_initializable<T> : key_(detail::local_open()) {}
  /// Values are made by make(), which is called at the first access in each goroutine. It may be called concurrently.
  /// If it throws, the access throws, and the next access calls it again. @throws std::length_error as above.
  template <class F>
  requires(std::is_invocable_r_v<T, F&> && !std::same_as<std::remove_cvref_t<F>, local>) explicit local(F make)
      : make_([f = std::move(make)]() mutable -> T { return f(); }), // a lambda: F may have its own operator new
        key_(detail::local_open()) {}
  ~local() { detail::local_close(key_); }
  local(const local&) = delete;
  local& operator=(const local&) = delete;

  /// Returns the calling goroutine's or thread's value; constructs it first if there is none. The reference is valid
  /// until the goroutine or thread ends. @throws std::bad_alloc; what the construction throws.
  T& operator*() const {
    detail::local_node* n = detail::local_find(key_);
    return GRT_DETAIL_LIKELY(n != nullptr) ? static_cast<detail::local_value<T>*>(n)->value : make();
  }
  T* operator->() const { return std::addressof(**this); }

private:
  GRT_DETAIL_NOINLINE T& make() const {
    using value = detail::local_value<T>;
    std::unique_ptr<value> v;
    if (make_) v.reset(new value(make_));
    else if constexpr (std::default_initializable<T>) v.reset(new value);
    if (auto* n = detail::local_find(key_)) return static_cast<value*>(n)->value; // make() has used this local
    detail::local_room(key_);
    v->key = key_;
    v->destroy = [](detail::local_node* n) noexcept { delete static_cast<value*>(n); };
    detail::local_add(v.get());
    return v.release()->value;
  }

  std::function<T()> make_;
  detail::local_key key_;
};

} // namespace grt

#pragma GCC visibility pop
