// grt/runtime.hpp - starting the runtime, and how many processors it uses.
#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include <grt/go.hpp>
#include <grt/sync.hpp>

namespace grt {

/// How the runtime starts. The environment wins: GRT_PROCS=4, GRT_STACK_MAX=1M, GRT_GUARD=mprotect; a bad value ends
/// the program with one line and status 2. Ignored under AT_SECURE.
struct options {
  unsigned procs = 0;                           ///< 0: min(affinity, cgroup CPU quota), at least 1
  std::size_t stack_max = 256 << 10;            ///< bytes reserved per goroutine, 64 KB to 8 MB; committed page by page
  std::chrono::milliseconds hibernate_after{0}; ///< reserved: 0, off
};

namespace detail {
void start(const options&);
extern std::atomic<unsigned long long> foreign_spawned;
} // namespace detail

/// Runs f as a goroutine and returns its result; an exception that leaves f is rethrown here. Any thread or goroutine;
/// waits for f, not for goroutines f started. Nests and repeats. `o` counts only for the call that starts the runtime.
/// @throws std::system_error no memory or no thread; std::invalid_argument an option out of range.
template <class F>
auto run(F&& f, const options& o = {}, const char* file = __builtin_FILE(), unsigned line = __builtin_LINE())
    -> std::invoke_result_t<F> {
  using R = std::invoke_result_t<F>;
  detail::start(o);
  wait_group done;
  std::exception_ptr error;
  done.add(1);
  if constexpr (std::is_void_v<R>) {
    go(
        [&] {
          try {
            std::forward<F>(f)();
          } catch (...) {
            error = std::current_exception();
          }
          done.done();
        },
        file, line);
    done.wait();
    if (error) std::rethrow_exception(std::move(error));
  } else {
    std::optional<std::conditional_t<std::is_reference_v<R>, std::remove_reference_t<R>*, R>> result;
    go(
        [&] {
          try {
            if constexpr (std::is_reference_v<R>) result.emplace(&std::forward<F>(f)());
            else result.emplace(std::forward<F>(f)());
          } catch (...) {
            error = std::current_exception();
          }
          done.done();
        },
        file, line);
    done.wait();
    if (error) std::rethrow_exception(std::move(error));
    if constexpr (std::is_reference_v<R>) return static_cast<R>(**result);
    else return std::move(*result);
  }
}

namespace detail {
bool blocking_begin() noexcept; // true: blocking_end is due
void blocking_end() noexcept;
struct blocking_section {
  bool begun = blocking_begin();
  blocking_section() noexcept = default;
  blocking_section(const blocking_section&) = delete;
  blocking_section& operator=(const blocking_section&) = delete;
  ~blocking_section() {
    if (begun) blocking_end();
  }
};
} // namespace detail

/// Runs f, which may block in the kernel or compute for long, and returns what it returns. The processor goes to others
/// meanwhile: at once if some wait for it, else as soon as somebody wants it. Afterwards the goroutine, if its processor
/// is gone, waits for one; errno is what f left. Outside a goroutine: just f(). f may call all of grt. Nests. Cost while
/// nobody wants the processor: some 10 ns. Go: what a system call or cgo call does.
template <class F> decltype(auto) blocking(F&& f) {
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
