// grt/group.hpp - error_group and single_flight. Part of grt/sync.hpp.
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
#include <grt/latch.hpp>
#include <grt/mutex.hpp>
#include <grt/semaphore.hpp>
#include <grt/wait_group.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
namespace detail {
// Goroutines that share a context. The first exception that leaves one of them is kept, and ends the context.
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
  /// Starts a goroutine. If `gate` is not null, the caller has acquired 1 from it, and the goroutine's end releases it.
  template <class T, class... A>
  void start(const attr* a, counting_semaphore<>* gate, const void* site, unsigned line, A&&... args) {
    running_.add(1);
    leave unless_started{this, gate}; // copying f may throw, too
    auto body = [this, gate, f = T(std::forward<A>(args)...)]() mutable {
      leave end{this, gate};
      try {
        T run(std::move(f)); // moved, so that the function and its captures are destroyed before done()
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
      core->running_.done(); // *core may be destroyed from here on
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

/// A set of goroutines that work on one task. The first exception that leaves one of them ends context(), and wait()
/// rethrows it. Any goroutine or thread may call go() and try_go(); while wait() or the destructor waits, only
/// goroutines of the group may. Go: golang.org/x/sync/errgroup.
class error_group {
public:
  error_group() : error_group(grt::background()) {}
  /// context() is a child of `parent`. @throws std::bad_alloc.
  explicit error_group(const grt::context& parent) : core_(parent) {}
  /// Ends context() and waits for all goroutines. An exception that wait() has not rethrown is dropped.
  ~error_group() {
    core_.cancel();
    core_.join();
  }
  /// Runs f(args...) in a new goroutine, as grt::go does. If there is a limit, waits first until fewer goroutines of
  /// the group run. @throws as grt::go; nothing was started then. Go: Group.Go.
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
  /// As go(), but never waits: returns false, and starts nothing, if the limit is reached. Go: TryGo.
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
  /// Waits until all goroutines have ended, then ends context(). @throws the first exception of a goroutine, at every
  /// call. Go: Group.Wait.
  void wait() {
    core_.join();
    core_.cancel();
    if (std::exception_ptr e = core_.error()) std::rethrow_exception(std::move(e));
  }
  /// From now on at most n goroutines of the group run at a time; 0 means any number. Do not call it while another
  /// thread or goroutine calls go(). @throws std::logic_error goroutines of the group are running. Go: SetLimit.
  void limit(std::size_t n) {
    if (!core_.idle()) throw std::logic_error("grt: error_group::limit while goroutines run");
    if (n) gate_.emplace(static_cast<std::ptrdiff_t>(n));
    else gate_.reset();
  }
  /// Returns the group's context. It ends when a goroutine throws (that exception is its cause), when wait() has seen
  /// all goroutines end, or when the parent ends.
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

/// Merges concurrent calls for the same key into one. Any goroutine and any thread may use it. Go:
/// golang.org/x/sync/singleflight.
template <class K, class V, class Hash = std::hash<K>, class Equal = std::equal_to<K>> class single_flight {
public:
  /// Runs f() in the calling goroutine if no call for `key` is running, and returns its result. Otherwise waits for
  /// the running call. All callers get a copy of its result, or its exception. A call that comes later runs its own f.
  /// f must not call run() with its own key, because it would wait for itself. @throws what f throws; std::bad_alloc;
  /// std::system_error with errc::operation_canceled if grt::exit() ended the goroutine that ran f. Go: Group.Do.
  template <class F> V run(const K& key, F&& f) {
    detail::may_wait(); // a thread's first wait may throw: here, and not later in ~landing
    std::shared_ptr<call> c;
    bool first;
    {
      std::lock_guard hold(lock_);
      auto at = calls_.find(key); // not try_emplace: in libstdc++ 12 it takes its argument's address by &
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
    std::optional<std::conditional_t<std::is_void_v<V>, std::monostate, V>> value; // written before `over` opens
    std::exception_ptr error;                                                      // as `value`
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

#pragma GCC visibility pop
