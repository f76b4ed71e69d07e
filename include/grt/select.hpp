// grt/select.hpp - waiting for the first of several channel operations.
//
//     grt::select(grt::on_recv(jobs, [](std::optional<job> j) { ... }),
//                 grt::on_send(results, value),
//                 grt::on_timeout(1s, [] { ... }));
//
// Any goroutine and any thread may call select().
#pragma once
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include <grt/chan.hpp>
#include <grt/time.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
namespace detail {

struct no_handler {};

struct case_base {
  select_case k; // the rest is left uninitialised: polling an empty channel reads only k.c
  case_base(const case_base&) = delete;
  case_base& operator=(const case_base&) = delete;
  case_base(chan_core* c, bool send) noexcept {
    k.c = c;
    k.send = send;
  }
};

template <class F, class V> void give(F& f, V&& v) {
  if constexpr (std::is_same_v<F, no_handler>) (void)f;
  else if constexpr (std::is_invocable_v<F&, V>) f(std::forward<V>(v));
  else f();
}

template <class T, class F> struct recv_case : case_base {
  raw<T> in;
  F f;
  recv_case(chan_core* c, F f) : case_base(c, false), f(std::move(f)) { k.elem = std::addressof(in.value); }
  void fire(bool ok) { // leaves `in` empty, because a case of a select_set can fire again
    std::optional<T> v;
    if (ok) {
      v.emplace(std::move(in.value));
      in.value.~T();
    }
    detail::give(f, std::move(v));
  }
};
template <class F> struct recv_case<void, F> : case_base {
  F f;
  recv_case(chan_core* c, F f) : case_base(c, false), f(std::move(f)) {}
  void fire(bool ok) { detail::give(f, ok); }
};
template <class T> struct store_to {
  std::optional<T>* out;
  void operator()(std::optional<T> v) {
    if (v) out->emplace(std::move(*v)); // emplace: T need not be assignable
    else out->reset();
  }
};
template <class T, class V, class F> struct send_case : case_base {
  V value; // T: a copy of the argument; T&&: the argument itself, moved from only if the case fires
  F f;
  template <class U>
  send_case(chan_core* c, U&& v, F f) : case_base(c, true), value(std::forward<U>(v)), f(std::move(f)) {
    k.elem = const_cast<std::remove_const_t<T>*>(std::addressof(value));
  }
  void fire(bool ok) {
    if (!ok) detail::throw_closed("grt: send on closed channel");
    if constexpr (!std::is_same_v<F, no_handler>) f();
  }
};
template <class F> struct send_case<void, void, F> : case_base {
  F f;
  send_case(chan_core* c, F f) : case_base(c, true), f(std::move(f)) {}
  void fire(bool ok) {
    if (!ok) detail::throw_closed("grt: send on closed channel");
    if constexpr (!std::is_same_v<F, no_handler>) f();
  }
};
template <class F> struct timeout_case {
  std::int64_t ns;
  F f;
  timeout_case(std::int64_t ns, F f) : ns(ns), f(std::move(f)) {}
  timeout_case(const timeout_case&) = delete;
};
template <class F> struct default_case {
  F f;
  explicit default_case(F f) : f(std::move(f)) {}
  default_case(const default_case&) = delete;
};

template <class C> inline constexpr bool is_timeout = false;
template <class F> inline constexpr bool is_timeout<timeout_case<F>> = true;
template <class C> inline constexpr bool is_default = false;
template <class F> inline constexpr bool is_default<default_case<F>> = true;
template <class C> inline constexpr bool is_recv = false;
template <class T, class F> inline constexpr bool is_recv<recv_case<T, F>> = true;

inline void prepare(case_base& c, select_case**& at, select_args&, std::size_t i, std::size_t*& index, std::size_t&,
                    std::size_t&) {
  *at++ = &c.k;
  *index++ = i;
}
template <class F>
void prepare(timeout_case<F>& c, select_case**&, select_args& a, std::size_t i, std::size_t*&, std::size_t& timeout,
             std::size_t&) {
  if (a.timeout_ns >= 0 && a.timeout_ns <= c.ns) return; // the earliest of several time-outs counts
  a.timeout_ns = c.ns;
  timeout = i;
}
template <class F>
void prepare(default_case<F>&, select_case**&, select_args& a, std::size_t i, std::size_t*&, std::size_t&,
             std::size_t& dflt) {
  if (a.has_default) throw std::logic_error("grt::select: two defaults");
  a.has_default = true;
  dflt = i;
}
template <class C> void fire(C& c, bool ok) {
  if constexpr (std::is_base_of_v<case_base, C>) c.fire(ok);
  else if constexpr (!std::is_same_v<decltype(c.f), no_handler>) c.f();
}
} // namespace detail

// The functions on_...() make the cases of select() and select_set. A case may be used only as a temporary, in the
// expression that makes it: it refers to its channel and to an rvalue argument, and cannot be copied or moved. Each
// handler runs after the operation, outside any lock. Cases of nil channels never fire.

/// Receives and drops the value. Also fires if the channel is closed and all its values have been received.
template <class T, class B> detail::recv_case<T, detail::no_handler> on_recv(const detail::recv_side<T, B>& c) {
  return {detail::access::core(c), {}};
}
/// Receives, then calls f(std::optional<T>), which gets nullopt if the channel is closed and all its values have been
/// received. For chan<void>: f(bool), with false instead of nullopt. If f cannot be called so, calls f().
template <class T, class B, class F>
requires(!std::is_same_v<std::decay_t<F>, std::optional<T>>) detail::recv_case<T, std::decay_t<F>> on_recv(
    const detail::recv_side<T, B>& c, F&& f) {
  return {detail::access::core(c), std::forward<F>(f)};
}
/// Receives into `out`, which becomes nullopt if the channel is closed and all its values have been received.
template <class T, class B>
detail::recv_case<T, detail::store_to<T>> on_recv(const detail::recv_side<T, B>& c, std::optional<T>& out) {
  return {detail::access::core(c), detail::store_to<T>{std::addressof(out)}};
}
/// Sends v, then calls f(). An lvalue is copied into the case, and an argument of another type is converted. An rvalue
/// of type T is moved from only if the case fires. If the channel is closed, select() throws channel_error.
template <class T, class B, class V, class F = detail::no_handler>
requires(!std::is_void_v<T> && std::is_convertible_v<V, T>) auto on_send(const detail::send_side<T, B>& c, V&& v,
                                                                         F f = {}) {
  using held = std::conditional_t<std::is_same_v<V, T>, T&&, T>; // T&&: refer to the caller's rvalue
  return detail::send_case<T, held, F>(detail::access::core(c), std::forward<V>(v), std::move(f));
}
/// Sends a signal, then calls f().
template <class B, class F = detail::no_handler>
detail::send_case<void, void, F> on_send(const detail::send_side<void, B>& c, F f = {}) {
  return {detail::access::core(c), std::move(f)};
}
/// Fires, and calls f(), if no other case has fired within d. Of several time-outs the earliest counts. Allocates
/// nothing. Go: case <-time.After(d).
template <class R, class Period, class F = detail::no_handler>
detail::timeout_case<F> on_timeout(std::chrono::duration<R, Period> d, F f = {}) {
  return {detail::ns_of(d), std::move(f)};
}
/// Fires, and calls f(), if no other case is ready at once; so select() does not wait. Go: default.
template <class F = detail::no_handler> detail::default_case<F> on_default(F f = {}) {
  return detail::default_case<F>(std::move(f));
}

/// Waits until at least one of the cases is ready, performs one ready case, runs its handler, and returns its index. If
/// several are ready, the choice among them is uniform. A channel may be in several cases. Without cases select() waits
/// for ever. Allocates nothing for up to 8 cases.
/// @throws channel_error the chosen case is a send and its channel is closed; std::logic_error two defaults; what the
/// handler throws: the operation has been performed then. Go: select.
template <class... C> std::size_t select(C&&... cases) {
  static_assert((!std::is_lvalue_reference_v<C> && ...),
                "grt::select takes its cases as temporaries: on_recv(...), on_send(...)");
  if constexpr (sizeof...(C) == 0) {
    detail::chan_nil_block(false);
  } else {
    if constexpr (sizeof...(C) == 2) { // a poll, one receive and a default: three loads if the channel is empty
      auto poll = [](auto& a, auto& b) {
        using A = std::remove_cvref_t<decltype(a)>;
        using B = std::remove_cvref_t<decltype(b)>;
        if constexpr (detail::is_recv<A> && detail::is_default<B>) return !a.k.c || detail::looks_empty(a.k.c);
        else return false;
      };
      if (poll(cases...)) {
        int i = 0;
        ((i++ == 1 ? detail::fire(cases, true) : void()), ...);
        return 1;
      }
    }
    detail::select_case* list[sizeof...(C)];
    std::size_t index[sizeof...(C)] = {}, i = 0, timeout = 0, dflt = 0;
    detail::select_case** at = list;
    std::size_t* to = index;
    detail::select_args a{list, 0, false, -1};
    (detail::prepare(cases, at, a, i++, to, timeout, dflt), ...);
    a.n = static_cast<unsigned>(at - list);
    bool ok = true;
    int fired = detail::select_run(a, ok);
    std::size_t which = fired == detail::select_default   ? dflt
                        : fired == detail::select_timeout ? timeout
                                                          : index[fired];
    i = 0;
    ((i++ == which ? detail::fire(cases, ok) : void()), ...);
    return which;
  }
}

namespace detail {

// A case of a select_set: a case that is made anew from the parts of the argument, and a reference to its channel.
struct set_entry {
  enum kind_t : std::uint8_t { recv, send, timeout, dflt };
  std::size_t index = 0;
  kind_t kind;
  select_case* k = nullptr; // for recv and send; else null
  chan_core* chan = nullptr;
  std::int64_t ns = 0; // for timeout
  explicit set_entry(kind_t t) noexcept : kind(t) {}
  virtual ~set_entry();
  virtual void fire(bool ok) = 0;
  void keep(select_case& of) noexcept {
    k = &of;
    chan = of.c;
    detail::chan_ref(chan);
  }
  set_entry(const set_entry&) = delete;
  set_entry& operator=(const set_entry&) = delete;
};
template <class C> struct stored_case;
template <class T, class F> struct stored_case<recv_case<T, F>> : set_entry {
  recv_case<T, F> c;
  explicit stored_case(recv_case<T, F>& from) : set_entry(recv), c(from.k.c, std::move(from.f)) { keep(c.k); }
  void fire(bool ok) override { c.fire(ok); }
};
template <class T, class V, class F> struct stored_case<send_case<T, V, F>> : set_entry {
  send_case<T, T, F> c;
  explicit stored_case(send_case<T, V, F>& from)
      : set_entry(send), c(from.k.c, std::move(from.value), std::move(from.f)) {
    keep(c.k);
  }
  void fire(bool ok) override { c.fire(ok); }
};
template <class F> struct stored_case<send_case<void, void, F>> : set_entry {
  send_case<void, void, F> c;
  explicit stored_case(send_case<void, void, F>& from) : set_entry(send), c(from.k.c, std::move(from.f)) { keep(c.k); }
  void fire(bool ok) override { c.fire(ok); }
};
template <class F> struct stored_case<timeout_case<F>> : set_entry {
  timeout_case<F> c;
  explicit stored_case(timeout_case<F>& from) : set_entry(timeout), c(from.ns, std::move(from.f)) { ns = c.ns; }
  void fire(bool ok) override { detail::fire(c, ok); }
};
template <class F> struct stored_case<default_case<F>> : set_entry {
  default_case<F> c;
  explicit stored_case(default_case<F>& from) : set_entry(dflt), c(std::move(from.f)) {}
  void fire(bool ok) override { detail::fire(c, ok); }
};
} // namespace detail

/// A select whose cases are added and removed at run time. Only one goroutine or thread at a time may use it; handlers
/// may add and remove cases. A case keeps its channel alive. Go: reflect.Select.
class select_set {
public:
  select_set() = default;
  select_set(select_set&&) = default;
  select_set& operator=(select_set&&) = default;
  /// Adds a case and returns its index. Indices count up from 0 and are never reused. The case is moved into the set,
  /// and so is an rvalue to be sent, at once. An object that the case refers to (`out` of on_recv) must live as long as
  /// the case. @throws std::logic_error a second default; std::bad_alloc.
  template <class C> std::size_t add(C&& c) {
    static_assert(!std::is_lvalue_reference_v<C>,
                  "grt::select_set::add takes a case as a temporary: on_recv(...), on_send(...)");
    auto e = std::make_shared<detail::stored_case<C>>(c);
    return put(std::move(e));
  }
  /// Waits until at least one case is ready, performs one ready case, runs its handler, and returns its index. A send
  /// that has fired leaves the set; all other cases stay. Each call starts the time-outs anew, and the earliest counts.
  /// With no case left it waits for ever. Allocates nothing, because add() has reserved what it needs.
  /// @throws channel_error the chosen case is a send and its channel is closed; the case leaves the set, too. What the
  /// handler throws: the operation has been performed then.
  std::size_t wait();
  /// Removes a case. Returns false if there is no case with this index.
  bool remove(std::size_t index) noexcept;
  /// Returns the number of cases.
  std::size_t size() const noexcept { return entries_.size(); }

private:
  std::size_t put(std::shared_ptr<detail::set_entry> e);
  std::vector<std::shared_ptr<detail::set_entry>> entries_; // in order of index
  std::vector<detail::select_case*> cases_;                 // this and the next three: scratch for wait()
  std::vector<detail::set_entry*> of_case_;
  std::vector<detail::chan_core*> order_;
  std::vector<unsigned> scratch_;
  std::size_t next_ = 0;
};

} // namespace grt

#pragma GCC visibility pop
