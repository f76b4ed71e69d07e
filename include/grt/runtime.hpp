// grt/runtime.hpp - starting the runtime, and how many processors it uses.
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
#include <grt/sync.hpp>

namespace grt {

/// What becomes of a goroutine's thread that computes without a processor, because others wait for that: it gets nice
/// +10 (at most 19), or keeps its priority. Not that of a pinned goroutine, nor within blocking().
enum class hog_policy : std::uint8_t { nice, equal };

/// How the runtime starts. The environment wins: GRT_PROCS=4, GRT_STACK_MAX=1M, GRT_HOGS=equal, GRT_GUARD=mprotect.
/// GRT_DEBUG=migrate,stall=100ms is for tests: `migrate` sends every goroutine to another thread at every switch, where
/// there are two processors or more; `stall` has a processor reported that has not switched for so long. A bad value
/// ends the program with one line and status 2. Ignored under AT_SECURE.
struct options {
  unsigned procs = 0;                 ///< 0: min(affinity, cgroup CPU quota), at least 1
  std::size_t stack_max = 256 << 10;  ///< bytes reserved per goroutine, 64 KB to 8 MB; committed page by page
  hog_policy hogs = hog_policy::nice; ///< docs/scheduler.md
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

/// Runs f as a goroutine and returns its result; an exception that leaves f is rethrown here. Any thread or goroutine;
/// waits for f, not for goroutines f started. Nests and repeats. `o` counts only for the call that starts the runtime.
/// @throws std::system_error no memory or no thread; std::invalid_argument an option out of range; std::logic_error
/// grt::exit() ended an f that was to return something.
template <class F>
auto run(F&& f, const options& o = {}, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE()))
    -> std::invoke_result_t<F> {
  return detail::run<std::invoke_result_t<F>>(nullptr, std::forward<F>(f), o, at);
}
/// The same with a name, a stack size and so on.
template <class F>
auto run(const attr& a, F&& f, const options& o = {},
         detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) -> std::invoke_result_t<F> {
  return detail::run<std::invoke_result_t<F>>(&a, std::forward<F>(f), o, at);
}

namespace detail {
bool blocking_begin() noexcept; // true: blocking_end is due
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

/// Runs f, which may block in the kernel or compute for long, and returns what it returns. The processor goes to others
/// meanwhile: at once if some wait for it, else as soon as somebody wants it. Afterwards the goroutine, if its
/// processor is gone, waits for one; errno is what f left. Outside a goroutine: just f(). f may call all of grt. Nests.
/// Cost while nobody wants the processor: some 10 ns. Go: what a system call or cgo call does.
template <std::invocable F> decltype(auto) blocking(F&& f) {
  detail::blocking_section s;
  return std::invoke(std::forward<F>(f));
}

/// How many goroutines may run at once. Starts the runtime. Go: GOMAXPROCS(0).
unsigned procs();
/// Changes it, live, 1 to 1024, and returns the previous number. A processor that goes gives its work to the others at
/// its next scheduling point. @throws std::invalid_argument out of range; std::system_error no thread. Go:
/// GOMAXPROCS(n).
unsigned set_procs(unsigned n);
/// Goroutines alive now. Cost: a look at each processor. Go: NumGoroutine.
std::size_t goroutines();

} // namespace grt
