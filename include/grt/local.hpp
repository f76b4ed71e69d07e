// grt/local.hpp - one value per goroutine.
#pragma once
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include <grt/detail/config.hpp>

namespace grt {
namespace detail {

struct local_key {
  std::uint32_t slot;   // dense, used again
  std::uint64_t serial; // never used again: a value made for an earlier owner of the slot is not found
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
local_node* local_find(local_key k) noexcept; // null: the caller has none yet
void local_room(local_key k);                 // throws std::bad_alloc
void local_add(local_node* n) noexcept;       // after local_room

} // namespace detail

/// A variable of which every goroutine has its own, and every thread outside grt: what `thread_local` is to threads.
/// The value is made at the first use in a goroutine and destroyed when that goroutine ends, the newest first; a
/// destructor may use other locals, and what it makes anew is destroyed after it (4 rounds; then it is leaked, as POSIX
/// does). Usually a static object; any thread may use it. Destroying the `local` while goroutines hold values leaves
/// those to be destroyed at their goroutines' end. Starts nothing, never blocks. At most 65,536 exist at once. Cost:
/// some 3 ns; the first use in a goroutine allocates.
///
///     static grt::local<std::mt19937> dice{[] { return std::mt19937(std::random_device()()); }};
///     int roll() { return (*dice)() % 6 + 1; }
template <class T> class local {
  static_assert(std::is_object_v<T> && !std::is_array_v<T> && !std::is_const_v<T>,
                "grt::local<T>: T is an object type");

public:
  /// Values are value-initialised. @throws std::length_error 65,536 exist.
  local() requires std::default_initializable<T> : key_(detail::local_open()) {}
  /// Values are what make() returns, called in the goroutine that is about to have its first. What it throws leaves the
  /// access, and the next one tries again.
  template <class F>
  requires(std::is_invocable_r_v<T, F&> && !std::same_as<std::remove_cvref_t<F>, local>) explicit local(F make)
      : make_([f = std::move(make)]() mutable -> T { return f(); }), // F's class may have its own operator new
        key_(detail::local_open()) {}
  ~local() { detail::local_close(key_); }
  local(const local&) = delete;
  local& operator=(const local&) = delete;

  /// The caller's value; made now if there is none. The reference is good in this goroutine, until it ends.
  /// @throws std::bad_alloc; what making it throws.
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
    if (auto* n = detail::local_find(key_)) return static_cast<value*>(n)->value; // making it has used it
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
