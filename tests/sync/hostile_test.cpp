// Types that make life hard for generic code go through everything public: their operator& and operator, are deleted,
// and so are their classes' operators new and delete; and their namespace has function templates that take anything,
// named like the library's own helpers and like functions of the standard library. All of them are deleted, too: where
// a header names one by accident, this file does not compile.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stdexcept>

namespace hostile {

template <class A, class B> void operator,(A&&, B&&) = delete;
template <class A> void operator&(A&&) = delete;

// clang-format off
#define TRAP(name)                                      \
  template <class... A> void name(A&&...) = delete;     \
  template <class A, class... B> void name(A&, B&&...) = delete;
// clang-format on
TRAP(access)
TRAP(addressof)
TRAP(after_end_arm)
TRAP(after_end_make)
TRAP(apply)
TRAP(background)
TRAP(begin)
TRAP(blocking_begin)
TRAP(blocking_end)
TRAP(chan_close)
TRAP(chan_closed)
TRAP(chan_lock)
TRAP(chan_make)
TRAP(chan_nil_block)
TRAP(chan_recv_for)
TRAP(chan_recv_in)
TRAP(chan_recv_locked)
TRAP(chan_ref)
TRAP(chan_send_for)
TRAP(chan_send_in)
TRAP(chan_send_locked)
TRAP(chan_size)
TRAP(chan_unlock)
TRAP(chan_unref)
TRAP(check_ending)
TRAP(construct_at)
TRAP(context_in)
TRAP(context_make)
TRAP(context_ref)
TRAP(context_unref)
TRAP(deadline_of)
TRAP(destroy)
TRAP(destroy_at)
TRAP(end)
TRAP(exchange)
TRAP(fire)
TRAP(forward)
TRAP(get)
TRAP(give)
TRAP(invoke)
TRAP(local_add)
TRAP(local_close)
TRAP(local_find)
TRAP(local_open)
TRAP(local_room)
TRAP(looks_empty)
TRAP(make_shared)
TRAP(make_unique)
TRAP(may_wait)
TRAP(move)
TRAP(ns_of)
TRAP(ns_until)
TRAP(ops_for)
TRAP(prepare)
TRAP(put_into)
TRAP(receive)
TRAP(receive_for)
TRAP(receive_in)
TRAP(result_of)
TRAP(run)
TRAP(run_after)
TRAP(run_after_end)
TRAP(run_closure)
TRAP(run_stored)
TRAP(select_run)
TRAP(sent)
TRAP(sleep_for)
TRAP(sleep_ns)
TRAP(sleep_until)
TRAP(sleep_within)
TRAP(spawn)
TRAP(spawn_abort)
TRAP(spawn_begin)
TRAP(spawn_begin_here)
TRAP(spawn_commit)
TRAP(spawn_load)
TRAP(spawn_store)
TRAP(spawn_task)
TRAP(start)
TRAP(steady_in)
TRAP(still_ahead)
TRAP(swap)
TRAP(throw_bad_count)
TRAP(throw_closed)
TRAP(timer_make)
TRAP(timer_ref)
TRAP(timer_set)
TRAP(timer_start)
TRAP(timer_stop)
TRAP(timer_unref)
TRAP(to_wide)
TRAP(try_receive)
TRAP(with_cancel)
#undef TRAP
// These are as good as the library's own, so that a call that finds both is ambiguous.
template <class F, class V> void give(F&, V&&) = delete;
template <class A> void put_into(A&, std::type_identity_t<A>&&) = delete;
template <class A> void put_into(std::optional<A>&, std::type_identity_t<A>&&) = delete;
template <class C> void fire(C&, bool) = delete;
template <class X, class O> void try_receive(grt::detail::chan_core*, O&) = delete;
template <class X, class O> void receive_for(grt::detail::chan_core*, O&, std::int64_t) = delete;
template <class C, class D> void ns_until(const std::chrono::time_point<C, D>&) = delete;
template <class C, class D> void still_ahead(const std::chrono::time_point<C, D>&) = delete;

struct base {
  static void* operator new(std::size_t) = delete;
  static void* operator new[](std::size_t) = delete;
  static void* operator new(std::size_t, void*) = delete;
  static void operator delete(void*) = delete;
  static void operator delete[](void*) = delete;
  void operator&() const = delete;
};
struct value : base {
  int v;
  explicit value(int x = 0) noexcept : v(x) {}
  friend bool operator==(const value& a, const value& b) { return a.v == b.v; }
};
struct moved_throwing : base { // try_recv destroys such a one and makes it anew
  int v;
  explicit moved_throwing(int x) noexcept : v(x) {}
  moved_throwing(moved_throwing&& o) noexcept : v(o.v) {}
  moved_throwing& operator=(moved_throwing&& o) noexcept(false) {
    v = o.v;
    return *this;
  }
};
struct fixed : base { // cannot be assigned
  const int v;
  explicit fixed(int x) noexcept : v(x) {}
  fixed(fixed&&) noexcept = default;
};
struct hash : base {
  std::size_t operator()(const value& x) const { return static_cast<std::size_t>(x.v); }
};
struct equal : base {
  bool operator()(const value& a, const value& b) const { return a == b; }
};
/// Takes anything, counts, and returns a hostile value: an expression it stands in could look for operator,.
template <int bytes> struct counter : base {
  std::atomic<int>* calls;
  char more[bytes] = {};
  explicit counter(std::atomic<int>& c) : calls(std::addressof(c)) {}
  template <class... A> value operator()(A&&...) const { return value(++*calls); }
};
using handler = counter<1>;
using big_handler = counter<200>; // does not fit where a goroutine's function is kept
struct completion : base {
  void operator()() const noexcept {}
};
struct maker : base {
  char more[200] = {};
  value operator()() const { return value(5); }
};
struct is_set : base {
  bool* what;
  explicit is_set(bool& b) : what(std::addressof(b)) {}
  bool operator()() const { return *what; }
};
struct key {
  using type = value;
};
struct lockable : base {
  grt::mutex m;
  void lock() { m.lock(); }
  void unlock() { m.unlock(); }
};
struct clock { // counts milliseconds
  using duration = std::chrono::duration<long, std::milli>;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<clock>;
  static constexpr bool is_steady = true;
  static time_point now() {
    return time_point(std::chrono::duration_cast<duration>(std::chrono::steady_clock::now().time_since_epoch()));
  }
};

} // namespace hostile

namespace {
using namespace std::chrono_literals;
using hostile::big_handler;
using hostile::handler;
using hostile::value;
using Hostile = GrtTest;

template <class T> void through_a_channel(std::size_t capacity) {
  std::atomic<int> calls{0};
  handler h(calls);
  grt::chan<T> c(capacity);
  grt::send_chan<T> in = c;
  grt::recv_chan<T> out = c;
  auto sends = [&](int n) { grt::go([in, n] { in.send(T(n)); }); };
  std::optional<T> got;
  sends(1);
  EXPECT_EQ(out.recv()->v, 1);
  sends(2);
  EXPECT_EQ(c.recv(grt::background())->v, 2);
  sends(3);
  EXPECT_EQ(c.recv_for(got, 1h), grt::recv_result::ok);
  EXPECT_EQ(got->v, 3);
  sends(4);
  while (c.try_recv(got) != grt::recv_result::ok) grt::yield();
  EXPECT_EQ(got->v, 4);
  if constexpr (!std::is_same_v<T, hostile::fixed>) {
    T x(0);
    sends(5);
    EXPECT_EQ(c.recv_for(x, 1h), grt::recv_result::ok);
    EXPECT_EQ(x.v, 5);
    sends(6);
    while (c.try_recv(x) != grt::recv_result::ok) grt::yield();
    EXPECT_EQ(x.v, 6);
  }
  sends(7);
  EXPECT_EQ(grt::select(grt::on_recv(c, got), grt::on_timeout(1h, h)), 0u);
  EXPECT_EQ(got->v, 7);
  sends(8);
  grt::select(grt::on_recv(out, h), grt::on_timeout(1h));
  sends(9);
  grt::select(grt::on_recv(c), grt::on_timeout(1h));
  EXPECT_EQ(grt::select(grt::on_recv(c, h), grt::on_default(h)), 1u);
  EXPECT_EQ(grt::select(grt::on_recv(c, h), grt::on_timeout(0s, h)), 1u);
  EXPECT_EQ(calls.exchange(0), 3);

  grt::wait_group received;
  auto receives = [&] { received.go([out] { out.recv(); }); };
  receives();
  for (T x(1); !c.try_send(std::move(x));) grt::yield();
  receives();
  EXPECT_TRUE(c.send_for(T(2), 1h));
  receives();
  c.send(T(3), grt::background());
  receives();
  grt::select(grt::on_send(c, T(4), h), grt::on_timeout(1h));
  receives();
  grt::select(grt::on_send(in, T(5)), grt::on_timeout(1h));
  EXPECT_EQ(calls.exchange(0), 1);
  if constexpr (std::is_copy_constructible_v<T>) {
    const T lasting(6);
    receives();
    while (!c.try_send(lasting)) grt::yield();
    receives();
    EXPECT_TRUE(c.send_for(lasting, 1h));
    receives();
    grt::select(grt::on_send(c, lasting, h), grt::on_timeout(1h));
    EXPECT_EQ(calls.exchange(0), 1);
  }
  received.wait();

  grt::select_set set;
  set.add(grt::on_recv(c, h));
  set.add(grt::on_timeout(1h, h));
  sends(10);
  EXPECT_EQ(set.wait(), 0u);
  set.remove(0);
  std::size_t sending = set.add(grt::on_send(c, T(11), h));
  receives();
  EXPECT_EQ(set.wait(), sending);
  received.wait();
  set.add(grt::on_recv(c, got));
  std::size_t none = set.add(grt::on_default(h));
  EXPECT_EQ(set.wait(), none);
  EXPECT_EQ(calls.exchange(0), 3);

  grt::go([c] {
    c.send(T(12));
    c.send(T(13));
    c.close();
  });
  int sum = 0;
  for (T& x : c) sum += x.v;
  EXPECT_EQ(sum, 25);
}
TEST_F(Hostile, ValuesInChannels) {
  for (std::size_t capacity : {0, 1}) {
    through_a_channel<value>(capacity);
    through_a_channel<hostile::moved_throwing>(capacity);
    through_a_channel<hostile::fixed>(capacity);
  }
}

TEST_F(Hostile, HandlersOfSignals) {
  std::atomic<int> calls{0};
  big_handler h(calls);
  grt::chan<void> c(1);
  grt::select(grt::on_send(c, h), grt::on_timeout(1h));
  grt::select(grt::on_recv(c, h), grt::on_default());
  grt::select_set set;
  set.add(grt::on_send(c, h));
  set.wait();
  set.add(grt::on_recv(c, h));
  set.wait();
  EXPECT_EQ(calls, 4);
}

template <class F> void as_goroutines() {
  std::atomic<int> calls{0};
  F f(calls);
  const grt::attr named{.name = "hostile"};
  value v(1);
  grt::chan<void> over;
  auto starts = [&](auto how) {
    int before = calls;
    how();
    while (calls == before) grt::yield();
  };
  starts([&] { grt::go(f); });
  starts([&] { grt::go(named, f); });
  starts([&] { grt::go(f, v, value(2)); });
  starts([&] { grt::go(named, f, v, value(2)); });
  starts([&] { grt::after_func(1us, f); });
  starts([&] { grt::after_func(named, 1us, f); });
  {
    auto [ctx, cancel] = grt::with_cancel(grt::background());
    cancel();
    starts([&, ctx = ctx] { (void)grt::context_after_func(ctx, f); });
    starts([&, ctx = ctx] { (void)grt::context_after_func(named, ctx, f); });
    starts([&, ctx = ctx] { (void)grt::context_after_func(ctx, f, v, value(2)); });
    starts([&, ctx = ctx] { (void)grt::context_after_func(named, ctx, f, v, value(2)); });
  }
  EXPECT_EQ(calls.exchange(0), 10);

  EXPECT_EQ(grt::spawn(f).get().v, 1);
  EXPECT_EQ(grt::spawn(named, f).get().v, 2);
  EXPECT_EQ(grt::spawn(f, v, value(2)).get().v, 3);
  EXPECT_EQ(grt::spawn(named, f, v, value(2)).get().v, 4);
  EXPECT_EQ(grt::run(f).v, 5);
  EXPECT_EQ(grt::run(named, f).v, 6);
  EXPECT_EQ(grt::blocking(f).v, 7);
  grt::task<value> t = grt::spawn(f), u;
  u = std::move(t);
  u.join();
  value& r = grt::spawn([&]() -> value& { return v; }).get();
  EXPECT_EQ(std::addressof(r), std::addressof(v));
  { grt::defer later(f); }
  grt::once_flag once;
  grt::call_once(once, f, v, value(2));
  EXPECT_EQ(calls.exchange(0), 10);

  grt::wait_group w;
  w.go(f);
  w.go(named, f);
  w.go(f, v, value(2));
  w.go(named, f, v, value(2));
  w.wait();
  grt::error_group g;
  g.limit(20);
  g.go(f);
  g.go(named, f);
  g.go(f, v, value(2));
  g.go(named, f, v, value(2));
  EXPECT_TRUE(g.try_go(f));
  EXPECT_TRUE(g.try_go(named, f));
  EXPECT_TRUE(g.try_go(f, v, value(2)));
  EXPECT_TRUE(g.try_go(named, f, v, value(2)));
  g.wait();
  {
    grt::scope s;
    s.go(f);
    s.go(named, f);
    s.go(f, v, value(2));
    s.go(named, f, v, value(2));
  }
  EXPECT_EQ(calls.exchange(0), 16);
}
TEST_F(Hostile, FunctionsAndArgumentsOfGoroutines) {
  as_goroutines<handler>();
  as_goroutines<big_handler>();
}

TEST_F(Hostile, LocksClocksPredicatesAndCompletions) {
  hostile::lockable m;
  grt::condition_variable cv;
  bool on = false;
  hostile::is_set done(on);
  hostile::clock::time_point soon = hostile::clock::now() + 1ms, late = hostile::clock::now() + 1h;
  grt::wait_group w;
  auto sets = [&] {
    on = false;
    w.go([&] {
      std::lock_guard hold(m);
      on = true;
      cv.notify_all();
    });
  };
  {
    std::lock_guard hold(m);
    sets();
    cv.wait(m, done);
    sets();
    cv.wait(m, grt::background(), done);
    sets();
    EXPECT_TRUE(cv.wait_for(m, 1h, done));
    sets();
    EXPECT_TRUE(cv.wait_until(m, late, done));
    on = false;
    EXPECT_FALSE(cv.wait_until(m, soon, done));
    EXPECT_EQ(cv.wait_for(m, 1us), std::cv_status::timeout);
  }
  w.wait();
  grt::mutex plain;
  EXPECT_TRUE(plain.try_lock_until(late));
  EXPECT_FALSE(plain.try_lock_until(soon));
  plain.unlock();
  grt::shared_mutex shared;
  EXPECT_TRUE(shared.try_lock_shared_until(late));
  EXPECT_FALSE(shared.try_lock_until(soon));
  shared.unlock_shared();
  grt::binary_semaphore places(1);
  EXPECT_TRUE(places.try_acquire_until(late));
  EXPECT_FALSE(places.try_acquire_until(soon));
  grt::sleep_until(soon);
  grt::sleep_until(soon, grt::background());
  auto [ctx, cancel] = grt::with_deadline(grt::background(), soon);
  ctx.done().recv();
  grt::barrier<hostile::completion> b(1);
  b.arrive_and_wait();
}

TEST_F(Hostile, KeysAndKeptValues) {
  std::atomic<int> calls{0};
  big_handler h(calls);
  grt::single_flight<value, value, hostile::hash, hostile::equal> flight;
  EXPECT_EQ(flight.run(value(7), h).v, 1);
  grt::single_flight<value, void, hostile::hash, hostile::equal> signal;
  signal.run(value(7), h);
  EXPECT_EQ(calls, 2);
  grt::context ctx = grt::with_value<hostile::key>(grt::background(), value(3));
  EXPECT_EQ(ctx.value<hostile::key>()->v, 3);
  grt::local<value> made{hostile::maker()}, plain;
  EXPECT_EQ((*made).v, 5);
  EXPECT_EQ(made->v, 5);
  EXPECT_EQ(plain->v, 0);
}
} // namespace
