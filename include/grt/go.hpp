// grt/go.hpp - starting, yielding, ending and identifying goroutines.
//
// A goroutine is a function that runs concurrently with its caller, on a stack of its own. Goroutines run on threads of
// the runtime; at most grt::procs() processors run them at a time. Any goroutine and any thread may call any function
// here, except where it is said otherwise.
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

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {

struct G;

/// The attributes of a new goroutine.
struct attr {
  /// Its name, for reports. The first 47 bytes are copied.
  std::string_view name{};
  /// Bytes of stack: 64 KB to 8 MB, rounded up to a power of two. 0 means the default, options::stack_max.
  std::size_t stack_max = 0;
  /// It starts on a thread of its own, as if its first statement were this_goroutine::pin().
  bool pinned = false;
  /// It has a floating-point environment (MXCSR and x87 control word; on AArch64 FPCR) of its own. It inherits the
  /// environment of its creator and keeps its own on whatever thread it runs. Without fp_env, a rounding mode that a
  /// goroutine sets stays behind on the thread and affects the next goroutine there. Once a program has started one
  /// goroutine with fp_env, every park and yield costs about 2 ns more.
  bool fp_env = false;
};

namespace detail {

// A goroutine is started in two steps. spawn_begin() allocates it and returns storage for its closure. The caller
// constructs the closure there; then spawn_commit() makes the goroutine runnable, or spawn_abort() frees it.
inline constexpr std::size_t closure_bytes = 120; // a larger closure is allocated on the heap
/// Allocates a goroutine that will call run(closure). `site` and `line`: where it is created, a file name and a line,
/// or a code address and 0. May yield first, as go() does. @throws what go() throws for lack of memory and for `a`.
void* spawn_begin(void (*run)(void*), const void* site, unsigned line, const attr* a);
/// The same without a yield, for a timer or a context that starts the goroutine later.
void* spawn_begin_here(void (*run)(void*), const void* site, unsigned line, const attr* a);
void spawn_commit(void* closure) noexcept;
void spawn_abort(void* closure) noexcept;
// The next three are for callbacks of timers, which run in the scheduler and must not wait.
G* spawn_fire(void* closure) noexcept; // counts the goroutine as started; the caller makes it runnable
/// As spawn_begin(), but stores p in the closure. Returns null if there is no memory at once.
void* spawn_begin_inside(void (*run)(void*), const void* site, unsigned line, void* p) noexcept;
void spawn_abort_inside(void* closure) noexcept;

/// The place where a goroutine is created; filled in by a default argument. It is a class with an explicit constructor,
/// so that an argument of the program is never taken for it.
struct call_site {
  const char* file;
  unsigned line;
  explicit constexpr call_site(const char* f, unsigned l) noexcept : file(f), line(l) {}
};

template <class T> void run_closure(void* p) {
  struct owner { // destroys the closure also when grt::exit() unwinds
    T* f;
    ~owner() { f->~T(); }
  } own{static_cast<T*>(p)};
  // An exception that leaves this call is fatal. No frame below catches it, so nothing is unwound, and the report
  // shows the whole stack.
  static_cast<void>(std::move(*own.f)());
}

template <class T> struct on_heap { // a wrapper, because T may have an operator new of its own
  T f;
  template <class... A> explicit on_heap(std::in_place_t, A&&... args) : f(std::forward<A>(args)...) {}
};

template <class T> struct boxed { // the closure for a T that does not fit into closure_bytes
  on_heap<T>* p;
  void operator()() {
    std::unique_ptr<on_heap<T>> own(p);
    static_cast<void>(std::move(own->f)());
  }
};

// Under ThreadSanitizer, closures are on the heap, and uninstrumented code stores and loads their address. Otherwise
// ThreadSanitizer would report races between successive goroutines that use the same slot.
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

/// Starts f() in a new goroutine. f is decay-copied. Callable from any thread; never waits. The first use starts the
/// runtime. Cost: about 15 ns, including the goroutine's run and end; no system call once the runtime is warm. The
/// goroutine gets its stack when it first runs.
///
/// go() may yield, as by grt::yield(), before it starts f: if more than 4,096 goroutines that have never run are queued
/// on the caller's processor. It looks at least once in 1,024 starts on a processor, and at every 16th start while
/// those goroutines wait. This keeps a loop that starts goroutines from filling the memory. Therefore do not call go()
/// while holding a lock that belongs to a thread, such as std::mutex. On a thread that grt did not create, go() never
/// yields.
/// @throws std::system_error no memory, or the runtime cannot start; what copying f throws. Nothing was started then.
/// Go: `go f()`.
template <class F>
requires std::invocable<std::decay_t<F>> GRT_DETAIL_INLINE void
go(F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  detail::spawn<std::decay_t<F>>(at.file, at.line, nullptr, std::forward<F>(f));
}
/// The same with attributes. @throws also std::invalid_argument: stack_max is out of range; std::system_error: no
/// thread for a pinned goroutine.
template <class F>
requires std::invocable<std::decay_t<F>>
void go(const attr& a, F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  detail::spawn<std::decay_t<F>>(at.file, at.line, &a, std::forward<F>(f));
}
/// Starts f(args...). f and the arguments are decay-copied before the call returns, as std::thread does, and as Go
/// evaluates the arguments of `go f(x, y)` at once.
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

/// Puts the calling goroutine at the end of its processor's run queue and lets the others there run first. On a thread
/// that grt did not create it calls sched_yield(2). Go: runtime.Gosched.
void yield() noexcept;

/// Ends the calling goroutine from any depth. Runs the destructors on the way, and those of goroutine-local values
/// last; destructors may wait. During the unwind std::uncaught_exceptions() is one higher. The unwind travels like an
/// exception that only `catch (...)` and `catch (abi::__forced_unwind&)` catch. The following is fatal, with a report:
///   - a handler that catches it and does not rethrow it;
///   - a noexcept function in its way, such as a destructor;
///   - a C function without unwind tables in its way;
///   - a second call of exit() in a destructor that the unwind runs.
/// If it ends the function given to grt::run or to a task, run<void> and task<void>::get return normally; for other
/// result types they throw std::logic_error. Cost: as an exception.
/// @throws std::logic_error outside a goroutine. Go: runtime.Goexit.
///
/// pthread_exit() in a goroutine, pinned or not, also ends the goroutine, and its argument is lost. Destructors that it
/// runs should not wait, because its exception object belongs to the thread. pthread_cancel() has no effect on threads
/// of the runtime.
[[noreturn]] void exit();

/// The address range of a stack: low is its first byte, high is one past its last.
struct stack_bounds {
  void* low;
  void* high;
};
namespace this_goroutine {
/// The goroutine's id, which is never reused; 0 outside a goroutine.
std::uint64_t id() noexcept;
/// The goroutine's name; "" if it has none, and outside a goroutine. Valid until set_name() or the goroutine's end.
std::string_view name();
/// Sets the name to the first 47 bytes of the argument. Outside a goroutine it does nothing. @throws std::bad_alloc.
void set_name(std::string_view);
/// Pins the goroutine: until the matching unpin() it runs on one thread, which runs nothing else. Use it for
/// thread-local state, OpenGL, setns(2), and libraries that need a thread of their own. Calls nest. Cost: two futex
/// wakes each time that the pinned goroutine is scheduled. If the goroutine ends pinned, its thread ends, too. Returns
/// false outside a goroutine. @throws std::system_error no thread; std::bad_alloc. Go: runtime.LockOSThread.
bool pin();
/// Undoes one pin(). Does nothing if the goroutine is not pinned. Go: runtime.UnlockOSThread.
void unpin();
/// The address range reserved for the goroutine's stack; {} outside a goroutine.
stack_bounds stack() noexcept;
} // namespace this_goroutine

} // namespace grt

#pragma GCC visibility pop
