// Every call that takes a duration or a time point, with values from one end of their range to the other, of several
// representations, periods and clocks. Short ones return, and no time is asserted of them; long ones wait until they
// are woken. This file is also built without optimisation and with UBSan (grt_test_deadline_ubsan).
#include "tests/support/fixture.hpp"

#include <atomic>
#include <chrono>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono;
using Deadlines = GrtTest;

template <class D> std::vector<D> short_ones() {
  using R = typename D::rep;
  using limits = std::numeric_limits<R>;
  std::vector<D> all{D(R(0))};
  if constexpr (std::is_signed_v<R>) all.insert(all.end(), {D(R(-1)), D(limits::lowest()), D(limits::lowest() / 2)});
  if constexpr (std::is_floating_point_v<R>)
    all.insert(all.end(), {D(limits::quiet_NaN()), D(-limits::infinity()), D(limits::min()), D(limits::denorm_min()),
                           D(-limits::min())});
  return all;
}
// All of them longer than this test may take.
template <class D> std::vector<D> long_ones() {
  using R = typename D::rep;
  using limits = std::numeric_limits<R>;
  std::vector<D> all{D(limits::max()), D(limits::max() / 2)};
  if constexpr (std::is_floating_point_v<R>) all.push_back(D(limits::infinity()));
  return all;
}
template <class F> void for_durations(F f) {
  f(nanoseconds());
  f(milliseconds());
  f(hours());
  f(duration<int, std::ratio<86400 * 7>>());
  f(duration<unsigned, std::ratio<1, 3>>());
  f(duration<std::uint64_t, std::exa>());
  f(duration<std::int64_t, std::ratio<INTMAX_MAX>>());
  f(duration<std::int64_t, std::ratio<INTMAX_MAX, 7>>());
  f(duration<float>());
  f(duration<double>());
  f(duration<double, std::nano>());
  f(duration<double, std::ratio<3600>>());
  f(duration<long double, std::ratio<1, 1000>>());
  f(duration<long double, std::ratio<7, INTMAX_MAX>>());
}

/// Counts seconds since a time long before the epoch: in nanoseconds, its now would not fit in 64 bits.
struct ancient_clock {
  using duration = seconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<ancient_clock>;
  [[maybe_unused]] static constexpr bool is_steady = false;
  static time_point now() { return time_point(duration_cast<duration>(system_clock::now().time_since_epoch()) + age); }
  static constexpr duration age{62135596800};
};
template <class C> struct any_clock {
  template <class D> std::chrono::time_point<C, D> at(D d) const { return std::chrono::time_point<C, D>(d); }
};
template <class F> void for_clocks(F f) {
  f(any_clock<steady_clock>());
  f(any_clock<system_clock>());
  f(any_clock<ancient_clock>());
}

// ---- the table

struct each_wait { // held by another goroutine, full, empty or never notified
  grt::mutex m;
  grt::shared_mutex sm;
  counting_semaphore<> sem{0};
  wait_group w;
  condition_variable cv;
  grt::mutex for_cv;
  chan<int> empty, full;
  each_wait() {
    m.lock();
    sm.lock();
    w.add(1);
  }
  ~each_wait() {
    m.unlock();
    sm.unlock();
    w.done();
  }
};
auto no = [] { return false; };

// A function of its own, not GoogleTest's macro: the table is compiled for some sixty types.
[[gnu::noinline]] void refused(bool got_it, int line) { EXPECT_FALSE(got_it) << "in line " << line; }

template <class D> void all_that_takes_a_duration(each_wait& e, D d) {
  int v = 0;
  std::optional<int> o;
  sleep_for(d);
  sleep_for(d, background());
  refused(e.m.try_lock_for(d), __LINE__);
  refused(e.sm.try_lock_for(d), __LINE__);
  refused(e.sm.try_lock_shared_for(d), __LINE__);
  refused(e.sem.try_acquire_for(d), __LINE__);
  refused(e.w.wait_for(d), __LINE__);
  std::unique_lock hold(e.for_cv);
  refused(e.cv.wait_for(hold, d) != std::cv_status::timeout, __LINE__);
  refused(e.cv.wait_for(hold, d, no), __LINE__);
  refused(e.empty.recv_for(v, d) != recv_result::empty, __LINE__);
  refused(e.empty.recv_for(o, d) != recv_result::empty, __LINE__);
  refused(e.full.send_for(1, d), __LINE__);
  refused(e.full.send_for(v, d), __LINE__);
  chan<void> signal;
  refused(signal.recv_for(d) != recv_result::empty, __LINE__);
  refused(signal.send_for(d), __LINE__);
  refused(select(on_recv(e.empty), on_timeout(d)) != 1u, __LINE__);
  select_set set;
  set.add(on_recv(e.empty));
  std::size_t timeout = set.add(on_timeout(d));
  refused(set.wait() != timeout, __LINE__);
  timer(d).c().recv();
  after(d).recv();
  timer again(hours(1));
  refused(!again.reset(d), __LINE__);
  again.c().recv();
  chan<void> ran(1);
  after_func(d, [ran] { ran.send(); });
  ran.recv();
  auto [ctx, cancel] = with_timeout(background(), d);
  ctx.done().recv();
  refused(ctx.err() != std::errc::timed_out, __LINE__);
}

template <class T> void all_that_takes_a_time_point(each_wait& e, T t) {
  sleep_until(t);
  sleep_until(t, background());
  refused(e.m.try_lock_until(t), __LINE__);
  refused(e.sm.try_lock_until(t), __LINE__);
  refused(e.sm.try_lock_shared_until(t), __LINE__);
  refused(e.sem.try_acquire_until(t), __LINE__);
  std::unique_lock hold(e.for_cv);
  while (e.cv.wait_until(hold, t) != std::cv_status::timeout) {
  } // another clock may be a little behind the steady one
  refused(e.cv.wait_until(hold, t, no), __LINE__);
  auto [ctx, cancel] = with_deadline(background(), t);
  ctx.done().recv();
  refused(ctx.err() != std::errc::timed_out, __LINE__);
}

TEST_F(Deadlines, ShortDurations_DoNotWait) {
  each_wait e;
  for_durations([&](auto zero) {
    for (auto d : short_ones<decltype(zero)>()) all_that_takes_a_duration(e, d);
  });
}

TEST_F(Deadlines, TimePointsLongPast_DoNotWait) {
  each_wait e;
  for_clocks([&](auto clock) {
    for_durations([&](auto zero) {
      for (auto d : short_ones<decltype(zero)>()) all_that_takes_a_time_point(e, clock.at(d));
    });
  });
}

TEST_F(Deadlines, TimePointsAShortTimeAhead_AreReached) {
  each_wait e;
  all_that_takes_a_time_point(e, steady_clock::now() + milliseconds(3));
  all_that_takes_a_time_point(e, system_clock::now() + milliseconds(3));
  all_that_takes_a_time_point(e, time_point_cast<duration<double>>(steady_clock::now()) + duration<double>(0.003));
  sleep_until(ancient_clock::now() + seconds(1));
}

TEST_F(Deadlines, OfTheProgramsOwnThreads_AreTheSame) {
  std::thread([] {
    each_wait e;
    for (auto d : short_ones<duration<double>>()) all_that_takes_a_duration(e, d);
    for (auto d : short_ones<hours>()) all_that_takes_a_duration(e, d);
    for (auto d : short_ones<nanoseconds>()) all_that_takes_a_time_point(e, any_clock<system_clock>().at(d));
    all_that_takes_a_time_point(e, system_clock::now() + milliseconds(3));
  }).join();
}

TEST_F(Deadlines, ATickersPeriod_IsPositive) {
  for_durations([](auto zero) {
    using D = decltype(zero);
    for (auto d : short_ones<D>()) {
      if (d > zero) continue;
      EXPECT_THROW(ticker{d}, std::invalid_argument);
      EXPECT_THROW(ticker(hours(1)).reset(d), std::invalid_argument);
    }
  });
  ticker fast{duration<double>(std::numeric_limits<double>::denorm_min())};
  fast.c().recv();
  fast.c().recv();
}

// ---- long ones

/// Goroutines that wait, all at once; then each is given what it waits for.
class long_waits {
public:
  void start(const char* what, std::function<bool(long_waits&)> f) {
    started_++;
    running_.go([this, what, f = std::move(f)] {
      EXPECT_TRUE(f(*this)) << what;
      if (!woken_) ADD_FAILURE() << what << " has not waited";
      returned_++;
    });
  }
  void wake() {
    await_waiting(started_ - returned_);
    woken_ = true;
    cancel();
    m.unlock();
    sm.unlock();
    sem.release(started_);
    w.done();
    empty.close();
    cv_on = true;
    do {
      cv.notify_all();
      std::optional<int> o;
      while (full.try_recv(o) == recv_result::ok) {
      }
    } while (!running_.wait_for(milliseconds(1)));
  }
  long_waits() {
    std::tie(ctx, cancel) = with_cancel(background());
    m.lock();
    sm.lock();
    w.add(1);
  }

  std::atomic<bool> cv_on{false};
  grt::mutex m;
  grt::shared_mutex sm;
  counting_semaphore<> sem{0};
  wait_group w;
  condition_variable cv;
  grt::mutex for_cv;
  chan<int> empty, full;
  context ctx;
  cancel_func cancel;

private:
  std::atomic<bool> woken_{false};
  std::ptrdiff_t started_ = 0;
  std::atomic<std::ptrdiff_t> returned_{0};
  wait_group running_;
};

bool canceled(const std::system_error& e) { return e.code() == std::errc::operation_canceled; }

template <class T> void start_until(long_waits& all, T t) {
  all.start("mutex", [t](long_waits& a) { return a.m.try_lock_until(t) && (a.m.unlock(), true); });
  all.start("shared_mutex", [t](long_waits& a) { return a.sm.try_lock_until(t) && (a.sm.unlock(), true); });
  all.start("lock_shared",
            [t](long_waits& a) { return a.sm.try_lock_shared_until(t) && (a.sm.unlock_shared(), true); });
  all.start("semaphore", [t](long_waits& a) { return a.sem.try_acquire_until(t); });
  all.start("condition", [t](long_waits& a) {
    std::unique_lock hold(a.for_cv);
    return a.cv.wait_until(hold, t) == std::cv_status::no_timeout;
  });
  all.start("condition with a predicate", [t](long_waits& a) {
    std::unique_lock hold(a.for_cv);
    return a.cv.wait_until(hold, t, [&] { return a.cv_on.load(); });
  });
  all.start("sleep", [t](long_waits& a) {
    try {
      sleep_until(t, a.ctx);
      return false;
    } catch (const std::system_error& e) {
      return canceled(e);
    }
  });
  all.start("context", [t](long_waits& a) {
    auto [ctx, cancel] = with_deadline(a.ctx, t);
    ctx.done().recv();
    return ctx.err() == std::errc::operation_canceled;
  });
}

template <class D> void start_for(long_waits& all, D d) {
  all.start("mutex", [d](long_waits& a) { return a.m.try_lock_for(d) && (a.m.unlock(), true); });
  all.start("shared_mutex", [d](long_waits& a) { return a.sm.try_lock_for(d) && (a.sm.unlock(), true); });
  all.start("lock_shared", [d](long_waits& a) { return a.sm.try_lock_shared_for(d) && (a.sm.unlock_shared(), true); });
  all.start("semaphore", [d](long_waits& a) { return a.sem.try_acquire_for(d); });
  all.start("wait_group", [d](long_waits& a) { return a.w.wait_for(d); });
  all.start("condition", [d](long_waits& a) {
    std::unique_lock hold(a.for_cv);
    return a.cv.wait_for(hold, d) == std::cv_status::no_timeout;
  });
  all.start("condition with a predicate", [d](long_waits& a) {
    std::unique_lock hold(a.for_cv);
    return a.cv.wait_for(hold, d, [&] { return a.cv_on.load(); });
  });
  all.start("receive", [d](long_waits& a) {
    std::optional<int> o;
    return a.empty.recv_for(o, d) == recv_result::closed;
  });
  all.start("send", [d](long_waits& a) { return a.full.send_for(1, d); });
  all.start("select", [d](long_waits& a) { return select(on_recv(a.empty), on_timeout(d)) == 0; });
  all.start("sleep", [d](long_waits& a) {
    try {
      sleep_for(d, a.ctx);
      return false;
    } catch (const std::system_error& e) {
      return canceled(e);
    }
  });
  all.start("context", [d](long_waits& a) {
    auto [ctx, cancel] = with_timeout(a.ctx, d);
    ctx.done().recv();
    return ctx.err() == std::errc::operation_canceled;
  });
  all.start("timer", [d](long_waits& a) {
    timer t(d), f = after_func(d, [] { FAIL(); });
    ticker every(d);
    return select(on_recv(t.c()), on_recv(every.c()), on_recv(a.empty)) == 2 && t.stop() && f.stop();
  });
}

TEST_F(Deadlines, LongDurations_WaitUntilWoken) {
  for_durations([](auto zero) {
    long_waits all;
    for (auto d : long_ones<decltype(zero)>()) start_for(all, d);
    all.wake();
  });
}

TEST_F(Deadlines, TimePointsFarAhead_WaitUntilWoken) {
  for_clocks([](auto clock) {
    for_durations([&](auto zero) {
      long_waits all;
      for (auto d : long_ones<decltype(zero)>()) {
        auto t = clock.at(d);
        using seconds = duration<long double>;
        using C = typename decltype(t)::clock;
        if (seconds(d) > seconds(C::now().time_since_epoch()) + hours(1)) start_until(all, t); // else it is past
      }
      all.wake();
    });
  });
}

TEST_F(Deadlines, OfAContext_IsExactOnTheSteadyClock) {
  auto t = steady_clock::now() + hours(1) + nanoseconds(1);
  auto [soon, cancel] = with_deadline(background(), t);
  EXPECT_EQ(soon.deadline(), t);
  auto [never, cancel_never] = with_deadline(background(), steady_clock::time_point::max());
  EXPECT_FALSE(never.deadline());
  auto [eternal, cancel_eternal] = with_timeout(background(), hours::max());
  EXPECT_FALSE(eternal.deadline());
  cancel();
  cancel_never();
  cancel_eternal();
}

// A clock that somebody sets: the wait goes by what it says in the end.
struct settable_clock {
  using duration = nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<settable_clock>;
  [[maybe_unused]] static constexpr bool is_steady = false;
  static time_point now() { return time_point(duration(at.load())); }
  static inline std::atomic<rep> at{0};
};
TEST_F(Deadlines, OnAClockThatStands_ComeWhenItIsSet) {
  settable_clock::time_point t(milliseconds(1));
  std::atomic<int> asked{0}, over{0};
  grt::mutex m, for_cv;
  condition_variable cv;
  m.lock();
  wait_group w;
  w.go([&] {
    sleep_until(t);
    over++;
  });
  w.go([&] {
    EXPECT_FALSE(m.try_lock_until(t));
    over++;
  });
  w.go([&] {
    std::unique_lock hold(for_cv);
    EXPECT_FALSE(cv.wait_until(hold, t, [&] { return asked++ < 0; }));
    over++;
  });
  while (asked < 3) yield(); // it has waited the millisecond twice, in vain
  EXPECT_EQ(over, 0);
  settable_clock::at = nanoseconds(milliseconds(2)).count();
  w.wait();
  EXPECT_EQ(over, 3);
  m.unlock();
}
} // namespace
