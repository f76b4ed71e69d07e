// grt/group.hpp - goroutines that belong together: error_group, single_flight. Part of grt/sync.hpp.
#pragma once
#include <concepts>
#include <cstddef>
#include <cxxabi.h>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>

#include <grt/context.hpp>
#include <grt/sync.hpp>

namespace grt {
namespace detail {
// Goroutines under one context: the first exception is kept and ends the context.
class group_core {
public:
  explicit group_core(const context& parent) : end_(grt::with_cancel(parent)) {}
  group_core(const group_core&) = delete;
  group_core& operator=(const group_core&) = delete;
  context ctx() const { return end_.first; }
  void cancel() const noexcept { end_.second(); }
  void join() { running_.wait(); }
  std::exception_ptr error() {
    std::lock_guard hold(lock_);
    return error_;
  }
  bool idle() noexcept { return running_.wait_for(std::chrono::nanoseconds(0)); }
  /// `gate`, if there is one, is passed already and opened again at the end.
  template <class T, class... A>
  void start(const attr* a, counting_semaphore<>* gate, const void* site, unsigned line, A&&... args) {
    running_.add(1);
    leave unless_started{this, gate}; // copying f may throw too
    auto body = [this, gate, f = T(std::forward<A>(args)...)]() mutable {
      leave end{this, gate};
      try {
        T run(std::move(f)); // what it holds is gone before done()
        static_cast<void>(std::move(run)());
      } catch (abi::__forced_unwind&) {
        throw;
      } catch (...) {
        fail(std::current_exception());
      }
    };
    detail::spawn<decltype(body)>(site, line, a, std::move(body));
    unless_started.core = nullptr;
  }

private:
  struct leave {
    group_core* core;
    counting_semaphore<>* gate;
    ~leave() {
      if (!core) return;
      if (gate) gate->release();
      core->running_.done(); // last touch
    }
  };
  void fail(std::exception_ptr e) noexcept {
    {
      std::lock_guard hold(lock_);
      if (error_) return;
      error_ = e;
    }
    end_.second(std::move(e));
  }
  std::pair<context, cancel_func> end_;
  wait_group running_;
  mutex lock_;
  std::exception_ptr error_; // under lock_
};
} // namespace detail

/// Goroutines that work on one task: the first exception ends context(), and wait() rethrows it. The destructor cancels
/// and joins. Any goroutine may call go() while the group is not being waited out. Go: golang.org/x/sync/errgroup.
class error_group {
public:
  error_group() : error_group(grt::background()) {}
  /// context() is a child of `parent`. @throws std::bad_alloc.
  explicit error_group(const grt::context& parent) : core_(parent) {}
  ~error_group() {
    core_.cancel();
    core_.join();
  }
  /// Runs f, with arguments as grt::go, in a goroutine; waits for a place first if there is a limit. @throws as
  /// grt::go.
  template <class F>
  requires std::invocable<std::decay_t<F>>
  void go(F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
    start<std::decay_t<F>>(nullptr, at.file, at.line, std::forward<F>(f));
  }
  template <class F>
  requires std::invocable<std::decay_t<F>>
  void go(const attr& a, F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
    start<std::decay_t<F>>(&a, at.file, at.line, std::forward<F>(f));
  }
  template <class F, class A0, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...> GRT_DETAIL_NOINLINE void
  go(F&& f, A0&& a0, A&&... args) {
    start<detail::bound_to<F, A0, A...>>(nullptr, __builtin_return_address(0), 0, std::forward<F>(f),
                                         std::forward<A0>(a0), std::forward<A>(args)...);
  }
  template <class F, class A0, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...> GRT_DETAIL_NOINLINE void
  go(const attr& a, F&& f, A0&& a0, A&&... args) {
    start<detail::bound_to<F, A0, A...>>(&a, __builtin_return_address(0), 0, std::forward<F>(f), std::forward<A0>(a0),
                                         std::forward<A>(args)...);
  }
  /// The same if there is a place now. Go: TryGo.
  template <class F>
  requires std::invocable<std::decay_t<F>>
  [[nodiscard]] bool try_go(F&& f, detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
    return try_start<std::decay_t<F>>(nullptr, at.file, at.line, std::forward<F>(f));
  }
  template <class F>
  requires std::invocable<std::decay_t<F>>
  [[nodiscard]] bool try_go(const attr& a, F&& f,
                            detail::call_site at = detail::call_site(__builtin_FILE(), __builtin_LINE())) {
    return try_start<std::decay_t<F>>(&a, at.file, at.line, std::forward<F>(f));
  }
  template <class F, class A0, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>
  [[nodiscard]] GRT_DETAIL_NOINLINE bool try_go(F&& f, A0&& a0, A&&... args) {
    return try_start<detail::bound_to<F, A0, A...>>(nullptr, __builtin_return_address(0), 0, std::forward<F>(f),
                                                    std::forward<A0>(a0), std::forward<A>(args)...);
  }
  template <class F, class A0, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A0>, std::decay_t<A>...>
  [[nodiscard]] GRT_DETAIL_NOINLINE bool try_go(const attr& a, F&& f, A0&& a0, A&&... args) {
    return try_start<detail::bound_to<F, A0, A...>>(&a, __builtin_return_address(0), 0, std::forward<F>(f),
                                                    std::forward<A0>(a0), std::forward<A>(args)...);
  }
  /// Parks until all have ended, ends context(), and rethrows the first exception, each time.
  void wait() {
    core_.join();
    core_.cancel();
    if (std::exception_ptr e = core_.error()) std::rethrow_exception(std::move(e));
  }
  /// At most n at once from now on; 0: any number. @throws std::logic_error some run. Go: SetLimit.
  void limit(std::size_t n) {
    if (!core_.idle()) throw std::logic_error("grt: error_group::limit while goroutines run");
    if (n) gate_.emplace(static_cast<std::ptrdiff_t>(n));
    else gate_.reset();
  }
  /// Ends with the first exception, which is its cause, and when wait() returns.
  grt::context context() const { return core_.ctx(); }

private:
  counting_semaphore<>* gate() noexcept { return gate_ ? &*gate_ : nullptr; }
  template <class T, class... A> void start(const attr* a, const void* site, unsigned line, A&&... args) {
    if (gate_) gate_->acquire();
    core_.start<T>(a, gate(), site, line, std::forward<A>(args)...);
  }
  template <class T, class... A> bool try_start(const attr* a, const void* site, unsigned line, A&&... args) {
    if (gate_ && !gate_->try_acquire()) return false;
    core_.start<T>(a, gate(), site, line, std::forward<A>(args)...);
    return true;
  }
  std::optional<counting_semaphore<>> gate_;
  detail::group_core core_;
};

/// Work that several want at the same time is done once. Go: golang.org/x/sync/singleflight.
template <class K, class V, class Hash = std::hash<K>, class Equal = std::equal_to<K>> class single_flight {
public:
  /// Runs f() here, unless a call for that key is running: then parks until that one has ended. All of them get its
  /// result, copied, or its exception. A later call runs anew. f may not ask for its own key.
  template <class F> V run(const K& key, F&& f) {
    detail::may_wait(); // may throw for a thread of the program's: not later, in ~landing
    std::shared_ptr<call> c;
    bool first;
    {
      std::lock_guard hold(lock_);
      auto at = calls_.find(key); // try_emplace of libstdc++ 12 takes the address of its argument by &
      first = at == calls_.end();
      c = first ? std::make_shared<call>() : at->second;
      if (first) calls_.emplace(key, c);
    }
    if (first) {
      landing end{*this, key, *c};
      try {
        if constexpr (std::is_void_v<V>) {
          static_cast<void>(std::forward<F>(f)());
          c->value.emplace();
        } else {
          c->value.emplace(std::forward<F>(f)());
        }
      } catch (abi::__forced_unwind&) {
        throw;
      } catch (...) {
        c->error = std::current_exception();
      }
    } else {
      c->over.wait();
    }
    if (c->value) return static_cast<V>(*c->value);
    if (c->error) std::rethrow_exception(c->error);
    throw std::system_error(std::make_error_code(std::errc::operation_canceled),
                            "grt::single_flight: the goroutine that did the work has exited");
  }

private:
  struct call {
    latch over{1};
    std::optional<std::conditional_t<std::is_void_v<V>, std::monostate, V>> value; // before over
    std::exception_ptr error;
  };
  struct landing {
    single_flight& s;
    const K& key;
    call& c;
    ~landing() {
      {
        std::lock_guard hold(s.lock_);
        s.calls_.erase(key);
      }
      c.over.count_down();
    }
  };
  mutex lock_;
  std::unordered_map<K, std::shared_ptr<call>, Hash, Equal> calls_; // under lock_
};

} // namespace grt
