// grt/task.hpp - goroutines that return a result.
#pragma once
#include <atomic>
#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <grt/detail/result.hpp>
#include <grt/go.hpp>
#include <grt/wait_group.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
namespace detail {

/// The state that a task shares with its goroutine. The last of the two to call unref() frees it. The task may access
/// `out` once `done` is at zero.
template <class R> struct task_state {
  wait_group done;
  result<R> out;
  std::atomic<int> refs{2};
  virtual ~task_state() = default;
  void unref() noexcept { // releases this holder's writes and acquires the other holder's [TASK-1]
    if (refs.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this; // [TASK-1] the last holder sees all writes
  }
};

template <class R, class F> struct task_body final : task_state<R> {
  std::optional<F> f;
  template <class... A> explicit task_body(A&&... args) : f(std::in_place, std::forward<A>(args)...) {
    this->done.add(1);
  }
  void run() {
    this->out.fill([this]() -> R { return (*f)(); },
                   [this] {
                     f.reset(); // the captures are destroyed before join() returns, as with std::thread
                     this->done.done();
                     this->unref();
                   });
  }
};

template <class B> struct task_start {
  B* body;
  void operator()() const { body->run(); }
};

} // namespace detail

/// The owner of a goroutine that grt::spawn has started, and of its result. A task can be moved but not copied. It is
/// empty after default construction, and after a move, detach() or get(); join(), get() and detach() then throw
/// std::logic_error. Only one goroutine or thread at a time may use a task. Go has no tasks: a goroutine sends its
/// result on a channel.
template <class R> class [[nodiscard]] task {
public:
  task() noexcept = default;
  task(task&& o) noexcept : state_(std::exchange(o.state_, nullptr)) {}
  /// If the task is not empty, waits for its goroutine first, as the destructor does.
  task& operator=(task&& o) noexcept {
    task(std::move(o)).swap(*this);
    return *this;
  }
  /// Waits for the goroutine if the task is not empty. A result or an exception is dropped.
  ~task() {
    if (state_) finish();
  }

  /// Waits until the function has returned, thrown or called grt::exit(), and until it and its arguments have been
  /// destroyed. A waiting goroutine parks; a thread that grt did not create blocks in the kernel. May be called again,
  /// and get() may follow. @throws std::logic_error the task is empty.
  void join() { state("join").done.wait(); }
  /// Waits as join() does, then returns the result or rethrows the exception. The task is empty afterwards. @throws
  /// what the function threw; std::logic_error the task is empty, or grt::exit() ended the function and R is not void.
  R get() {
    state("get");
    struct emptied {
      task t;
      ~emptied() { t.finish(); }
    } own{std::move(*this)};
    own.t.state_->done.wait();
    return own.t.state_->out.take("grt::exit() ended the task's function");
  }
  /// Gives up the goroutine, which runs on. Its result or exception is dropped. Never waits. @throws std::logic_error
  /// the task is empty.
  void detach() {
    state("detach").unref();
    state_ = nullptr;
  }
  /// True if the task is not empty.
  explicit operator bool() const noexcept { return state_; }
  void swap(task& o) noexcept { std::swap(state_, o.state_); }

  explicit task(detail::task_state<R>* s) noexcept : state_(s) {} ///< for spawn

private:
  detail::task_state<R>& state(const char* what) const {
    if (!state_) throw std::logic_error(std::string("grt::task: ") + what + " on an empty task");
    return *state_;
  }
  void finish() noexcept {
    state_->done.wait();
    state_->out.clear();
    std::exchange(state_, nullptr)->unref();
  }

  detail::task_state<R>* state_ = nullptr;
};

namespace detail {
template <class R, class F, class... A>
task<R> spawn_task(const void* site, unsigned line, const attr* a, A&&... args) {
  using body = task_body<R, F>;
  auto b = std::make_unique<body>(std::forward<A>(args)...);
  detail::spawn<task_start<body>>(site, line, a, task_start<body>{b.get()});
  return task<R>(b.release());
}
} // namespace detail

/// Starts f() in a new goroutine and returns the task for its result. f is decay-copied. Cost: one allocation more than
/// grt::go, which it follows in all else. @throws also std::bad_alloc.
template <class F>
requires std::invocable<std::decay_t<F>> task<std::invoke_result_t<std::decay_t<F>>>
spawn(F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  using T = std::decay_t<F>;
  return detail::spawn_task<std::invoke_result_t<T>, detail::bound<T>>(at.file, at.line, nullptr, std::forward<F>(f));
}
template <class F>
requires std::invocable<std::decay_t<F>> task<std::invoke_result_t<std::decay_t<F>>>
spawn(const attr& a, F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
  using T = std::decay_t<F>;
  return detail::spawn_task<std::invoke_result_t<T>, detail::bound<T>>(at.file, at.line, &a, std::forward<F>(f));
}
/// Starts f(args...). f and the arguments are decay-copied before the call returns, as std::thread does.
template <class F, class A0, class... A>
requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>
    GRT_DETAIL_NOINLINE task<std::invoke_result_t<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>>
    spawn(F&& f, A0&& a0, A&&... args) {
  using R = std::invoke_result_t<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>;
  return detail::spawn_task<R, detail::bound_to<F, A0, A...>>(
      __builtin_return_address(0), 0, nullptr, std::forward<F>(f), std::forward<A0>(a0), std::forward<A>(args)...);
}
template <class F, class A0, class... A>
requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>
    GRT_DETAIL_NOINLINE task<std::invoke_result_t<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>>
    spawn(const attr& a, F&& f, A0&& a0, A&&... args) {
  using R = std::invoke_result_t<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>;
  return detail::spawn_task<R, detail::bound_to<F, A0, A...>>(__builtin_return_address(0), 0, &a, std::forward<F>(f),
                                                              std::forward<A0>(a0), std::forward<A>(args)...);
}

} // namespace grt

#pragma GCC visibility pop
