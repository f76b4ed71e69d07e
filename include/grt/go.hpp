// grt/go.hpp - starting goroutines, giving way, and who am I.
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

#include <grt/detail/config.hpp>

namespace grt {

struct G;

/// What a goroutine is started with. `name` is copied (47 bytes). `stack_max`: bytes, 64 KB to 8 MB, 0 is the default.
/// `pinned`: it starts on a thread of its own, as if its first statement were this_goroutine::pin(). `fp_env`: the
/// floating-point environment (MXCSR and x87 control word; AArch64: FPCR) is its own: it starts with its spawner's,
/// keeps it wherever it runs, and nobody else sees what it sets. Without it, a changed rounding mode stays behind on
/// the thread for whoever runs there next. Once the program has made one such goroutine, every park and yield costs
/// some 2 ns more.
struct attr {
  std::string_view name{};
  std::size_t stack_max = 0;
  bool pinned = false;
  bool fp_env = false;
};

namespace detail {

inline constexpr std::size_t closure_bytes = 120;
void* spawn_begin(void (*run)(void*), const void* site, unsigned line, const attr* a); // -> storage for the closure
/// The same without a yield: for a timer or a context that starts its goroutine later.
void* spawn_begin_here(void (*run)(void*), const void* site, unsigned line, const attr* a);
void spawn_commit(void* closure) noexcept;
void spawn_abort(void* closure) noexcept;
G* spawn_fire(void* closure) noexcept; // by a timer: counts it as started and returns it to be made runnable
/// By a timer; stores p in the closure. null: no memory.
void* spawn_begin_inside(void (*run)(void*), const void* site, unsigned line, void* p) noexcept;
void spawn_abort_inside(void* closure) noexcept;

/// Where a goroutine was started; filled in by a default argument. It is a type of its own, which nothing converts to,
/// so that no argument of a program's is ever taken for it.
struct call_site {
  const char* file;
  unsigned line;
  explicit constexpr call_site(const char* f, unsigned l) noexcept : file(f), line(l) {}
};

template <class T> void run_closure(void* p) {
  struct owner { // also when grt::exit() unwinds
    T* f;
    ~owner() { f->~T(); }
  } own{static_cast<T*>(p)};
  static_cast<void>(std::move(
      *own.f)()); // an exception here is fatal with the stack intact: nothing on the way catches, so nothing is unwound
}

template <class T> struct on_heap { // not T itself, whose class may have its own operator new
  T f;
  template <class... A> explicit on_heap(std::in_place_t, A&&... args) : f(std::forward<A>(args)...) {}
};

template <class T> struct boxed { // closures that do not fit
  on_heap<T>* p;
  void operator()() {
    std::unique_ptr<on_heap<T>> own(p);
    static_cast<void>(std::move(own->f)());
  }
};

// ThreadSanitizer must not see who used the slot before: there the closure stands on the heap and uninstrumented code
// keeps its address.
void spawn_store(void* closure, void* p) noexcept;
void* spawn_load(void* closure) noexcept;
template <class T> void run_stored(void* closure) {
  std::unique_ptr<on_heap<T>> p(static_cast<on_heap<T>*>(detail::spawn_load(closure)));
  static_cast<void>(std::move(p->f)());
}

template <class T, class... A>
GRT_DETAIL_INLINE void spawn(const void* site, unsigned line, const attr* a, A&&... args) {
  if constexpr (GRT_DETAIL_TSAN) {
    auto keep = std::make_unique<on_heap<T>>(std::in_place, std::forward<A>(args)...);
    void* at = detail::spawn_begin(detail::run_stored<T>, site, line, a);
    detail::spawn_store(at, keep.release());
    detail::spawn_commit(at);
  } else if constexpr (sizeof(T) > closure_bytes || alignof(T) > 8) {
    std::unique_ptr<on_heap<T>> keep(new (std::nothrow) on_heap<T>(std::in_place, std::forward<A>(args)...));
    if (!keep) throw std::system_error(std::make_error_code(std::errc::not_enough_memory), "grt::go");
    detail::spawn<boxed<T>>(site, line, a, boxed<T>{keep.get()});
    keep.release();
  } else {
    void* at = detail::spawn_begin(detail::run_closure<T>, site, line, a);
    if constexpr (std::is_nothrow_constructible_v<T, A...>) {
      ::new (at) T(std::forward<A>(args)...);
    } else {
      try {
        ::new (at) T(std::forward<A>(args)...);
      } catch (...) {
        detail::spawn_abort(at);
        throw;
      }
    }
    detail::spawn_commit(at);
  }
}

template <class F, class... A> struct bound {
  F f;
  std::tuple<A...> args;
  template <class G, class... B> explicit bound(G&& g, B&&... b) : f(std::forward<G>(g)), args(std::forward<B>(b)...) {}
  decltype(auto) operator()() {
    return std::apply([this](A&... a) -> decltype(auto) { return std::invoke(std::move(f), std::move(a)...); }, args);
  }
};

template <class F, class... A> using bound_to = bound<std::decay_t<F>, std::decay_t<A>...>;

} // namespace detail

/// Starts f() in a goroutine; f is decay-copied. Any thread. Never blocks; some 15 ns with run and end, no system call
/// once warm. The stack is bound at the first run. May yield, as grt::yield does, before it starts f: once in 1,024
/// starts of a processor, if more than 4,096 goroutines wait there that have never run. So a loop that starts
/// goroutines cannot outrun memory. Do not call it under a lock that belongs to a thread (std::mutex). A thread that is
/// not the runtime's never yields here. @throws std::system_error no memory, nothing started; what copying f throws.
/// Go: `go f()`.
template <class F>
requires std::invocable<std::decay_t<F>> GRT_DETAIL_INLINE void
go(F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  detail::spawn<std::decay_t<F>>(at.file, at.line, nullptr, std::forward<F>(f));
}
/// The same with a name, a stack size and so on. @throws std::invalid_argument stack_max out of range.
template <class F>
requires std::invocable<std::decay_t<F>>
void go(const attr& a, F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  detail::spawn<std::decay_t<F>>(at.file, at.line, &a, std::forward<F>(f));
}
/// Starts f(args...), all decay-copied as std::thread does: what `go f(x, y)` evaluates at once, is evaluated at once.
template <class F, class A0, class... A>
requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...> GRT_DETAIL_NOINLINE void
go(F&& f, A0&& a0, A&&... args) {
  using T = detail::bound_to<F, A0, A...>;
  detail::spawn<T>(__builtin_return_address(0), 0, nullptr, std::forward<F>(f), std::forward<A0>(a0),
                   std::forward<A>(args)...);
}
template <class F, class A0, class... A>
requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...> GRT_DETAIL_NOINLINE void
go(const attr& a, F&& f, A0&& a0, A&&... args) {
  using T = detail::bound_to<F, A0, A...>;
  detail::spawn<T>(__builtin_return_address(0), 0, &a, std::forward<F>(f), std::forward<A0>(a0),
                   std::forward<A>(args)...);
}

/// Lets the other goroutines of this processor run first. On a foreign thread: sched_yield. Go: runtime.Gosched.
void yield() noexcept;

/// Ends the calling goroutine from any depth, and runs the destructors on the way, std::uncaught_exceptions() counting
/// one more; those of its goroutine-local values last. May wait in them. It travels as an exception that only
/// `catch (...)` and `catch (abi::__forced_unwind&)` see: one that does not rethrow it, a noexcept function in its way
/// (destructors are) and a C function without unwind tables are fatal, with a report. In grt::run's f: run<void>
/// returns, any other throws std::logic_error; so does task::get. @throws std::logic_error outside a goroutine. Cost:
/// as an exception. Go: runtime.Goexit.
/// pthread_exit() in a goroutine does the same, also in a pinned one: it ends the goroutine, and its argument is lost.
/// Its destructors should not wait, because the exception belongs to the thread. Threads of the runtime cannot be
/// cancelled: pthread_cancel has no effect on them.
[[noreturn]] void exit();

struct stack_bounds {
  void* low;
  void* high;
};
namespace this_goroutine {
std::uint64_t id() noexcept;     ///< 0 outside a goroutine; never reused
std::string_view name();         ///< "" without one, and outside a goroutine; valid until set_name or its end
void set_name(std::string_view); ///< the first 47 bytes; nothing outside a goroutine
/// From here to the matching unpin() the goroutine runs on one thread, which runs nothing else: for thread-local state,
/// OpenGL, setns(2), a library that wants its own thread. Nests. Each turn costs two futex wakes. One that ends pinned
/// ends its thread. false outside a goroutine.
/// @throws std::system_error no thread. Go: runtime.LockOSThread.
bool pin();
void unpin();                  ///< Go: runtime.UnlockOSThread; nothing where nothing is pinned
stack_bounds stack() noexcept; ///< the reserved range; {} outside a goroutine
} // namespace this_goroutine

} // namespace grt
