// grt/chan.hpp - channels: typed queues between goroutines and threads.
//
// Any goroutine and any thread may call any function here. An operation "waits" by parking its goroutine, whose thread
// then runs other goroutines. A thread that grt did not create blocks in the kernel instead. The first wait of such a
// thread allocates a record for it and may start the runtime; it throws std::system_error if either fails.
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

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {

/// Thrown by a send on a closed channel and by close() of a closed or nil channel. Go: a panic.
class channel_error : public std::logic_error {
public:
  using std::logic_error::logic_error;
  ~channel_error() override;
};

/// The type of grt::nil.
struct nil_t {
  explicit constexpr nil_t(int) {}
};
inline constexpr nil_t nil{0}; ///< `chan<T> c = grt::nil;` makes a nil channel: send and receive wait for ever

/// The result of a receive that may give up.
enum class recv_result {
  ok,    ///< a value was received
  empty, ///< no value came, in the time given; the channel is not closed
  closed ///< the channel is closed, and all its values have been received
};

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

template <class T> struct raw { // storage for one received value; `full`: it holds one
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

/// The members that chan, send_chan and recv_chan have in common: a counted reference to a channel, or to none (nil).
class handle {
public:
  /// True if both refer to the same channel, or both are nil.
  bool operator==(const handle& o) const noexcept { return c_ == o.c_; }
  /// True if the channel is not nil.
  explicit operator bool() const noexcept { return c_; }
  /// Values in the buffer at some moment during the call; 0 for nil. Never waits. Go: len(ch).
  std::size_t size() const noexcept { return detail::chan_size(c_); }
  /// Values that the buffer can hold; 0 if the channel is unbuffered or nil. Go: cap(ch).
  std::size_t capacity() const noexcept { return c_ ? c_->capacity : 0; }
  /// True once close() has been called, even if the buffer still holds values. False for nil. Never waits.
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

/// Reads without the lock. True: a moment ago there was no value and no sender, and the channel is open. [CLOSE-1]
inline bool looks_empty([[maybe_unused]] chan_core* c) noexcept {
  if constexpr (GRT_DETAIL_TSAN) return false; // the reads below race on purpose: under TSan, take the lock instead
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
/// Assigns v to out. If the assignment could throw, destroys `out` and constructs it anew from v instead, so that a
/// received value cannot get lost.
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
/// The members that send, added to the base class B.
template <class T, class B> class send_side : public B {
public:
  using B::B;
  /// Sends `value`. Waits until a receiver takes it or the buffer has room; waiting senders are served in order of
  /// arrival. Waits for ever on nil.
  /// @throws channel_error the channel is closed, or is closed during the wait. Go: ch <- v.
  void send(T value) const { sender_ops<T>::send(this->c_, std::move(value)); }
  /// Sends v if it need not wait. Otherwise, and on nil, returns false; an rvalue has then not been moved from.
  /// @throws channel_error the channel is closed. Go: select with default.
  bool try_send(const T& v) const {
    T copy(v);
    return sender_ops<T>::try_send(this->c_, copy);
  }
  bool try_send(T&& v) const { return sender_ops<T>::try_send(this->c_, v); }
  /// As send(value), but gives up when ctx ends. If ctx has ended before, the call fails even if it need not wait.
  /// @throws std::system_error ctx has ended, and nothing was sent; the code is ctx.err(). channel_error as above.
  void send(T value, const context& ctx) const {
    detail::sent(detail::chan_send_in(this->c_, std::addressof(value), ctx));
  }
  /// As send(v), but waits at most d. Returns false if it was not sent; an rvalue has then not been moved from.
  /// @throws channel_error the channel is closed, or is closed during the wait.
  template <class R, class P> bool send_for(const T& v, std::chrono::duration<R, P> d) const {
    T copy(v);
    return detail::sent(detail::chan_send_for(this->c_, std::addressof(copy), detail::ns_of(d)));
  }
  template <class R, class P> bool send_for(T&& v, std::chrono::duration<R, P> d) const {
    return detail::sent(detail::chan_send_for(this->c_, std::addressof(v), detail::ns_of(d)));
  }
  /// Closes the channel. Never waits. Values in the buffer can still be received. Wakes every waiting receiver, which
  /// finds the channel closed, and every waiting sender, which throws.
  /// @throws channel_error the channel is closed already, or nil. Go: close(ch).
  void close() const { detail::chan_close(this->c_); }
};
/// The same for chan<void>, without a value.
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

/// The members that receive, added to the base class B.
template <class T, class B> class recv_side : public B {
public:
  using B::B;
  /// Receives a value. Waits until there is one or the channel is closed; waiting receivers are served in order of
  /// arrival. Returns nullopt if the channel is closed and all its values have been received. Waits for ever on nil.
  /// Go: v, ok := <-ch.
  std::optional<T> recv() const { return detail::receive<T>(this->c_); }
  /// Receives into `out` if it need not wait. Unless the result is `ok`, `out` is unchanged. Nil is always `empty`.
  /// Go: select with default.
  recv_result try_recv(T& out) const { return detail::try_receive<T>(this->c_, out); }
  recv_result try_recv(std::optional<T>& out) const { return detail::try_receive<T>(this->c_, out); }
  /// As recv(), but gives up when ctx ends. If ctx has ended before, the call fails even if it need not wait.
  /// @throws std::system_error ctx has ended, and nothing was received; the code is ctx.err().
  std::optional<T> recv(const context& ctx) const { return detail::receive_in<T>(this->c_, ctx); }
  /// As try_recv(out), but waits at most d for a value.
  template <class R, class P> recv_result recv_for(T& out, std::chrono::duration<R, P> d) const {
    return detail::receive_for<T>(this->c_, out, detail::ns_of(d));
  }
  template <class R, class P> recv_result recv_for(std::optional<T>& out, std::chrono::duration<R, P> d) const {
    return detail::receive_for<T>(this->c_, out, detail::ns_of(d));
  }
  /// `for (T& v : ch)` receives until the channel is closed and all its values have been received. Each step waits as
  /// recv() does. The channel must outlive the loop. Go: for v := range ch.
  iterator<T> begin() const { return iterator<T>(this->c_); }
  sentinel end() const { return {}; }
};
/// The same for chan<void>, without a value.
template <class B> class recv_side<void, B> : public B {
public:
  using B::B;
  /// Receives a signal and returns true. Returns false if the channel is closed and all its signals have been received.
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

/// A channel: a typed queue between goroutines and threads. The object is a handle; copies share one channel, which
/// lives as long as a handle does. Copying costs an atomic increment. The channel is unbuffered unless a capacity is
/// given. Waiters are served in order of arrival, and a value for a waiting receiver is moved straight to it. T is
/// moved under the channel's lock, so its move constructor and destructor must not call grt. chan<void> carries signals
/// without a value: send(), and recv() -> bool. Go: chan T.
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
  /// Makes an unbuffered channel, which is not nil. @throws std::bad_alloc. Go: make(chan T).
  chan() : chan(0) {}
  /// Makes a channel whose buffer holds `capacity` values; the buffer is allocated at once. @throws std::length_error
  /// `capacity` is above max_capacity, or the buffer would exceed 2^40 bytes; std::bad_alloc. Go: make(chan T, n).
  explicit chan(std::size_t capacity) : base(detail::chan_make(capacity, detail::ops_for<T>())) {}
  /// A nil channel: send and receive wait for ever, and close() throws. A moved-from channel is nil, too.
  chan(nil_t) noexcept : base(nullptr) {}
};

/// A handle that can only receive. Converts implicitly from chan<T>. Go: <-chan T.
template <class T> class recv_chan : public detail::recv_side<T, detail::handle> {
  using base = detail::recv_side<T, detail::handle>;

public:
  recv_chan(const chan<T>& c) noexcept : base(detail::access::shared(c)) {}
  recv_chan(nil_t) noexcept : base(nullptr) {}

private:
  explicit recv_chan(detail::chan_core* c) noexcept : base(c) {} // takes over a reference to c
  friend struct detail::access;
};

/// A handle that can only send and close. Converts implicitly from chan<T>. Go: chan<- T.
template <class T> class send_chan : public detail::send_side<T, detail::handle> {
  using base = detail::send_side<T, detail::handle>;

public:
  send_chan(const chan<T>& c) noexcept : base(detail::access::shared(c)) {}
  send_chan(nil_t) noexcept : base(nullptr) {}
};

} // namespace grt

#pragma GCC visibility pop
