// grt/runtime.hpp - starting the runtime, its options, and the number of processors.
//
// A "processor" is the right to run goroutines (a P in Go): at most as many goroutines run at a time as there are
// processors. The runtime starts by itself when a goroutine or a timer is first started, or when a wait first needs it.
// Making channels or locks does not start it. Any goroutine and any thread may call any function here.
#pragma once
#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include <grt/detail/result.hpp>
#include <grt/go.hpp>
#include <grt/wait_group.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {

/// The priority of a hog: a thread whose goroutine goes on computing after its processor was given to another thread,
/// because other goroutines waited for one. Pinned goroutines and code in blocking() are exempt.
enum class hog_policy : std::uint8_t {
  nice, ///< the nice value rises by 10, to at most 19
  equal ///< the priority does not change
};

/// The options with which the runtime starts. Environment variables override them:
///
///     GRT_PROCS=4             processors, 1 to 1024
///     GRT_STACK_MAX=1M        bytes of stack, 64K to 8M
///     GRT_HOGS=equal          hog_policy: nice or equal
///     GRT_GUARD=mprotect      how stacks are guarded: madvise, poison, mprotect or canary
///     GRT_MAX_THREADS=10000   threads of the runtime, 2 to 4M; the program ends if it needs more
///     GRT_DEBUG=migrate       for tests: every goroutine moves to another thread at every switch, if there are two
///                             processors or more
///     GRT_DEBUG=stall=100ms   for tests: reports a processor that has not switched goroutines for that long
///
/// GRT_DEBUG takes several words with commas between them. An invalid value ends the program with one line on stderr
/// and status 2. In a setuid program and the like (AT_SECURE) the variables are ignored.
struct options {
  unsigned procs = 0;                 ///< processors, at most 1024; 0: min(affinity, cgroup CPU quota), at least 1
  std::size_t stack_max = 256 << 10;  ///< bytes reserved per goroutine, 64 KB to 8 MB; committed page by page
  hog_policy hogs = hog_policy::nice; ///< see docs/scheduler.md
};

namespace detail {
void start(const options&);
extern std::atomic<unsigned long long> foreign_spawned;

template <class R, class F> R run(const attr* a, F&& f, const options& o, call_site at) {
  detail::start(o);
  detail::may_wait();
  wait_group done;
  result<R> out;
  auto body = [&] { out.fill([&]() -> R { return std::forward<F>(f)(); }, [&] { done.done(); }); };
  done.add(1);
  detail::spawn<decltype(body)>(at.file, at.line, a, body);
  done.wait();
  return out.take("grt::exit() ended the function given to run");
}
} // namespace detail

/// Runs f() in a new goroutine, waits until f has returned, and returns its result. An exception that leaves f is
/// rethrown here. Does not wait for goroutines that f has started. Callable from any goroutine or thread; calls nest
/// and may be repeated. `o` has an effect only in the call that starts the runtime.
/// @throws std::system_error no memory or no thread; std::invalid_argument an option is out of range; std::logic_error
/// grt::exit() ended f, and f's result type is not void.
template <class F>
auto run(F&& f, const options& o = {}, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE()))
    -> std::invoke_result_t<F> {
  return detail::run<std::invoke_result_t<F>>(nullptr, std::forward<F>(f), o, at);
}
/// The same with attributes for the goroutine.
template <class F>
auto run(const attr& a, F&& f, const options& o = {},
         detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) -> std::invoke_result_t<F> {
  return detail::run<std::invoke_result_t<F>>(&a, std::forward<F>(f), o, at);
}

namespace detail {
bool blocking_begin() noexcept; // true: the caller must call blocking_end()
void blocking_end() noexcept;
struct blocking_section {
  bool begun = detail::blocking_begin();
  blocking_section() noexcept = default;
  blocking_section(const blocking_section&) = delete;
  blocking_section& operator=(const blocking_section&) = delete;
  ~blocking_section() {
    if (begun) detail::blocking_end();
  }
};
} // namespace detail

/// Runs f on the calling goroutine's thread and returns its result. Use it if f may block in the kernel or compute for
/// long: the goroutine's processor can run other goroutines during the call. It is given away at once if others are
/// runnable, and otherwise as soon as some thread wants it. If the processor is gone when f returns, the goroutine
/// waits for one; errno keeps the value that f left. Outside a goroutine it only calls f(). f may use all of grt. Calls
/// nest. Cost if no thread wants the processor: about 10 ns. Go: what a system call or a cgo call does.
template <std::invocable F> decltype(auto) blocking(F&& f) {
  detail::blocking_section s;
  return std::invoke(std::forward<F>(f));
}

/// Returns the number of processors: how many goroutines may run at a time. Starts the runtime. Go: GOMAXPROCS(0).
unsigned procs();
/// Sets the number of processors to n, 1 to 1024, at any time, and returns the previous number. A processor that is no
/// longer needed gives its goroutines to the others at its next scheduling point. From then on the number no longer
/// follows affinity and quota. Starts the runtime.
/// @throws std::invalid_argument n is out of range; std::system_error no thread. Go: GOMAXPROCS(n).
unsigned set_procs(unsigned n);
/// Returns the number of goroutines that are alive. Cost: it reads two counters of each processor. Does not start the
/// runtime. Go: NumGoroutine.
std::size_t goroutines();

} // namespace grt

#pragma GCC visibility pop
