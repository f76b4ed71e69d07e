// grt/chan.hpp - channels.
#pragma once
#include <chrono>
#include <cstddef>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <grt/detail/chan_core.hpp>
#include <grt/detail/duration.hpp>

namespace grt {

/// Send on a closed channel, close of a closed or nil channel. Go: a panic.
class channel_error : public std::logic_error {
public:
  using std::logic_error::logic_error;
  ~channel_error() override;
};

struct nil_t {
  explicit constexpr nil_t(int) {}
};
inline constexpr nil_t nil{0}; ///< chan<T> c = grt::nil: send and receive block for ever

enum class recv_result { ok, empty, closed };

template <class T> class recv_chan;

namespace detail {
inline constexpr std::size_t chan_max_capacity = 0x7fffffff, chan_max_bytes = std::size_t{1} << 40;

template <class T>
inline constexpr elem_ops ops_of = {
    sizeof(T), alignof(T), [](void* to, void* from) noexcept { ::new (to) T(std::move(*static_cast<T*>(from))); },
    [](void* p) noexcept { static_cast<T*>(p)->~T(); }};

template <class T> constexpr const elem_ops* ops_for() noexcept {
  if constexpr (std::is_void_v<T>) return nullptr;
  else return &ops_of<T>;
}

template <class T> struct raw { // storage for one received value
  union {
    T value;
  };
  bool full = false;
  raw() noexcept {}
  ~raw() {
    if (full) value.~T();
  }
  raw(const raw&) = delete;
  raw& operator=(const raw&) = delete;
};

// The handle: shared, counted, null is nil.
class handle {
public:
  bool operator==(const handle& o) const noexcept { return c_ == o.c_; }
  explicit operator bool() const noexcept { return c_; }
  std::size_t size() const noexcept { return detail::chan_size(c_); }
  std::size_t capacity() const noexcept { return c_ ? c_->capacity : 0; }
  bool closed() const noexcept { return detail::chan_closed(c_); }

  handle(const handle& o) noexcept : c_(o.c_) { detail::chan_ref(c_); }
  handle(handle&& o) noexcept : c_(std::exchange(o.c_, nullptr)) {}
  handle& operator=(handle o) noexcept {
    std::swap(c_, o.c_);
    return *this;
  }
  ~handle() { detail::chan_unref(c_); }

protected:
  explicit handle(chan_core* c) noexcept : c_(c) {}
  chan_core* c_;
  friend struct access;
};
struct access {
  static chan_core* core(const handle& h) noexcept { return h.c_; }
  static chan_core* shared(const handle& h) noexcept {
    detail::chan_ref(h.c_);
    return h.c_;
  }
  template <class T> static recv_chan<T> recv_of(chan_core* c) noexcept {
    detail::chan_ref(c);
    return recv_chan<T>(c);
  }
};

inline bool sent(outcome o) {
  if (GRT_DETAIL_UNLIKELY(o == outcome::closed)) detail::throw_closed("grt: send on closed channel");
  return o == outcome::ok;
}
inline recv_result result_of(outcome o) noexcept {
  return o == outcome::ok ? recv_result::ok : o == outcome::closed ? recv_result::closed : recv_result::empty;
}

template <class T> struct sender_ops {
  static void send(chan_core* c, T&& value) {
    if (GRT_DETAIL_UNLIKELY(!c)) detail::chan_nil_block(true);
    const std::uintptr_t words = detail::chan_lock(c);
    std::uint32_t n = c->n, capacity = c->send_below;
    if (GRT_DETAIL_LIKELY(n < capacity)) {
      std::uint32_t i, unwrapped = c->head + n;
      if (__builtin_sub_overflow(unwrapped, capacity, &i)) i = unwrapped;
      ::new (static_cast<void*>(reinterpret_cast<T*>(c->buffer) + i)) T(std::move(value));
      c->n = n + 1;
      return detail::chan_unlock(c, words);
    }
    detail::sent(detail::chan_send_locked(c, std::addressof(value), true));
  }
  static bool try_send(chan_core* c, T& value) {
    if (!c) return false;
    detail::chan_lock(c);
    return detail::sent(detail::chan_send_locked(c, std::addressof(value), false));
  }
};

/// A moment ago nothing was there, and it is open: no need for the lock. [CLOSE-1]
inline bool looks_empty([[maybe_unused]] chan_core* c) noexcept {
  if constexpr (GRT_DETAIL_TSAN) return false; // racy on purpose: under TSan the locked way decides
  return !__atomic_load_n(&c->n, __ATOMIC_RELAXED) && !__atomic_load_n(&c->senders.head, __ATOMIC_RELAXED) &&
         !__atomic_load_n(&c->closed, __ATOMIC_ACQUIRE); // [CLOSE-1]
}

template <class T> struct receiver_ops {
  static bool recv(chan_core* c, raw<T>& out) {
    if (GRT_DETAIL_UNLIKELY(!c)) detail::chan_nil_block(false);
    const std::uintptr_t words = detail::chan_lock(c);
    if (GRT_DETAIL_LIKELY(c->n > c->recv_above)) {
      std::uint32_t head = c->head, next = head + 1;
      c->head = next == c->capacity ? 0 : next;
      c->n--;
      T* s = reinterpret_cast<T*>(c->buffer) + head;
      ::new (static_cast<void*>(std::addressof(out.value))) T(std::move(*s));
      s->~T();
      detail::chan_unlock(c, words);
      return out.full = true;
    }
    return out.full = detail::chan_recv_locked(c, std::addressof(out.value), true) == outcome::ok;
  }
  static recv_result try_recv(chan_core* c, raw<T>& out) {
    if (!c || detail::looks_empty(c)) return recv_result::empty;
    detail::chan_lock(c);
    outcome o = detail::chan_recv_locked(c, std::addressof(out.value), false);
    out.full = o == outcome::ok;
    return detail::result_of(o);
  }
  static recv_result recv_for(chan_core* c, raw<T>& out, std::int64_t ns) {
    outcome o = detail::chan_recv_for(c, std::addressof(out.value), ns);
    out.full = o == outcome::ok;
    return detail::result_of(o);
  }
};
/// Assigns; what cannot be assigned without throwing is destroyed and made anew, for a value must not get lost.
template <class T> void put_into(T& out, std::type_identity_t<T>&& v) noexcept {
  if constexpr (std::is_nothrow_move_assignable_v<T>) {
    out = std::move(v);
  } else {
    std::destroy_at(std::addressof(out));
    std::construct_at(std::addressof(out), std::move(v));
  }
}
template <class T> void put_into(std::optional<T>& out, std::type_identity_t<T>&& v) noexcept {
  out.emplace(std::move(v));
}

struct sentinel {};
template <class T> class iterator {
public:
  using value_type = T;
  using difference_type = std::ptrdiff_t;
  explicit iterator(chan_core* c) : c_(c) { next(); }
  T& operator*() const { return *value_; }
  iterator& operator++() {
    next();
    return *this;
  }
  void operator++(int) { next(); }
  bool operator==(sentinel) const { return !value_; }

private:
  void next() {
    raw<T> r;
    value_.reset();
    if (receiver_ops<T>::recv(c_, r)) value_.emplace(std::move(r.value));
  }
  chan_core* c_;
  mutable std::optional<T> value_;
};

template <class T> std::optional<T> receive(chan_core* c) {
  raw<T> r;
  if (receiver_ops<T>::recv(c, r)) return std::optional<T>(std::in_place, std::move(r.value));
  return std::nullopt;
}
template <class T, class Out> recv_result try_receive(chan_core* c, Out& out) {
  raw<T> r;
  recv_result x = receiver_ops<T>::try_recv(c, r);
  if (r.full) detail::put_into(out, std::move(r.value));
  return x;
}
template <class T, class Out> recv_result receive_for(chan_core* c, Out& out, std::int64_t ns) {
  raw<T> r;
  recv_result x = receiver_ops<T>::recv_for(c, r, ns);
  if (r.full) detail::put_into(out, std::move(r.value));
  return x;
}
template <class T> std::optional<T> receive_in(chan_core* c, const context& ctx) {
  raw<T> r;
  r.full = detail::chan_recv_in(c, std::addressof(r.value), ctx) == outcome::ok;
  if (r.full) return std::optional<T>(std::in_place, std::move(r.value));
  return std::nullopt;
}
} // namespace detail

namespace detail {
/// The sending half of a handle's members; B is what it adds them to.
template <class T, class B> class send_side : public B {
public:
  using B::B;
  /// Sends, waiting for a receiver or for room. FIFO among senders. @throws channel_error closed, also while waiting.
  /// Go: ch <- v.
  void send(T value) const { sender_ops<T>::send(this->c_, std::move(value)); }
  /// false: would have to wait; then an rvalue is untouched. @throws channel_error closed. Go: select with default.
  bool try_send(const T& v) const {
    T copy(v);
    return sender_ops<T>::try_send(this->c_, copy);
  }
  bool try_send(T&& v) const { return sender_ops<T>::try_send(this->c_, v); }
  /// @throws std::system_error the context has ended, before or first. channel_error as above.
  void send(T value, const context& ctx) const {
    detail::sent(detail::chan_send_in(this->c_, std::addressof(value), ctx));
  }
  /// Waits at most d. false: not sent; then an rvalue is untouched. @throws channel_error closed, also while waiting.
  template <class R, class P> bool send_for(const T& v, std::chrono::duration<R, P> d) const {
    T copy(v);
    return detail::sent(detail::chan_send_for(this->c_, std::addressof(copy), detail::ns_of(d)));
  }
  template <class R, class P> bool send_for(T&& v, std::chrono::duration<R, P> d) const {
    return detail::sent(detail::chan_send_for(this->c_, std::addressof(v), detail::ns_of(d)));
  }
  /// Wakes all who wait here. @throws channel_error closed already, or nil. Go: close(ch).
  void close() const { detail::chan_close(this->c_); }
};
template <class B> class send_side<void, B> : public B {
public:
  using B::B;
  void send() const {
    if (!this->c_) detail::chan_nil_block(true);
    detail::chan_lock(this->c_);
    detail::sent(detail::chan_send_locked(this->c_, nullptr, true));
  }
  bool try_send() const {
    if (!this->c_) return false;
    detail::chan_lock(this->c_);
    return detail::sent(detail::chan_send_locked(this->c_, nullptr, false));
  }
  void send(const context& ctx) const { detail::sent(detail::chan_send_in(this->c_, nullptr, ctx)); }
  template <class R, class P> bool send_for(std::chrono::duration<R, P> d) const {
    return detail::sent(detail::chan_send_for(this->c_, nullptr, detail::ns_of(d)));
  }
  void close() const { detail::chan_close(this->c_); }
};

/// The receiving half.
template <class T, class B> class recv_side : public B {
public:
  using B::B;
  /// Receives, waiting until there is a value or the channel is closed. nullopt: closed and drained. Go: v, ok := <-ch.
  std::optional<T> recv() const { return detail::receive<T>(this->c_); }
  recv_result try_recv(T& out) const { return detail::try_receive<T>(this->c_, out); }
  recv_result try_recv(std::optional<T>& out) const { return detail::try_receive<T>(this->c_, out); }
  /// @throws std::system_error the context has ended, before or first.
  std::optional<T> recv(const context& ctx) const { return detail::receive_in<T>(this->c_, ctx); }
  /// Waits at most d. empty: nothing came; out is as before then, and when closed.
  template <class R, class P> recv_result recv_for(T& out, std::chrono::duration<R, P> d) const {
    return detail::receive_for<T>(this->c_, out, detail::ns_of(d));
  }
  template <class R, class P> recv_result recv_for(std::optional<T>& out, std::chrono::duration<R, P> d) const {
    return detail::receive_for<T>(this->c_, out, detail::ns_of(d));
  }
  /// for (T& v : ch): until closed and drained. Go: for v := range ch.
  iterator<T> begin() const { return iterator<T>(this->c_); }
  sentinel end() const { return {}; }
};
template <class B> class recv_side<void, B> : public B {
public:
  using B::B;
  /// false: closed and drained.
  bool recv() const {
    if (!this->c_) detail::chan_nil_block(false);
    detail::chan_lock(this->c_);
    return detail::chan_recv_locked(this->c_, nullptr, true) == outcome::ok;
  }
  recv_result try_recv() const {
    if (!this->c_ || detail::looks_empty(this->c_)) return recv_result::empty;
    detail::chan_lock(this->c_);
    return detail::result_of(detail::chan_recv_locked(this->c_, nullptr, false));
  }
  bool recv(const context& ctx) const { return detail::chan_recv_in(this->c_, nullptr, ctx) == outcome::ok; }
  template <class R, class P> recv_result recv_for(std::chrono::duration<R, P> d) const {
    return detail::result_of(detail::chan_recv_for(this->c_, nullptr, detail::ns_of(d)));
  }
};
} // namespace detail

/// A typed queue between goroutines and threads: a shared handle, cheap to copy. Unbuffered unless a capacity is given.
/// Waiters are served in order; a value for a waiting receiver goes straight to it. chan<void> carries signals: send(),
/// and recv() -> bool. Go: chan T.
template <class T> class chan : public detail::send_side<T, detail::recv_side<T, detail::handle>> {
  using base = detail::send_side<T, detail::recv_side<T, detail::handle>>;
  template <class U>
  static constexpr bool fits = std::is_void_v<U> ||
                               (std::is_nothrow_move_constructible_v<U> && std::is_nothrow_destructible_v<U>);
  static_assert(
      fits<T>,
      "grt::chan<T>: T must be nothrow move constructible and nothrow destructible; send a std::unique_ptr<T>");

public:
  static constexpr std::size_t max_capacity = detail::chan_max_capacity;
  chan() : chan(0) {}
  /// @throws std::length_error too large; std::bad_alloc.
  explicit chan(std::size_t capacity) : base(detail::chan_make(capacity, detail::ops_for<T>())) {}
  chan(nil_t) noexcept : base(nullptr) {} ///< so is one that was moved from
};

/// What may only be received from. Go: <-chan T.
template <class T> class recv_chan : public detail::recv_side<T, detail::handle> {
  using base = detail::recv_side<T, detail::handle>;

public:
  recv_chan(const chan<T>& c) noexcept : base(detail::access::shared(c)) {}
  recv_chan(nil_t) noexcept : base(nullptr) {}

private:
  explicit recv_chan(detail::chan_core* c) noexcept : base(c) {} // takes over a reference
  friend struct detail::access;
};

/// What may only be sent to and closed. Go: chan<- T.
template <class T> class send_chan : public detail::send_side<T, detail::handle> {
  using base = detail::send_side<T, detail::handle>;

public:
  send_chan(const chan<T>& c) noexcept : base(detail::access::shared(c)) {}
  send_chan(nil_t) noexcept : base(nullptr) {}
};

} // namespace grt
