// tests/model/mutex_test.cpp - no waiter of a mutex sleeps while it is free, also when another's time is over just
// then.
#include "sched/protocol/sleep.hpp"
#include "sync/protocol_mutex.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;
using std::memory_order_relaxed;

constexpr unsigned woken = 0, handed = 1, waiting = 2, expired = 3; // as sched/wait/timed.hpp has it

struct waiter {
  modelled::plain<unsigned> ok{woken};
  modelled::plain<bool> too_late{false};
  modelled::atomic<std::uint32_t> word{0u}; // what it sleeps on
};

// For two.
struct queue {
  modelled::plain<waiter*> first{nullptr}, second{nullptr};
  bool empty() { return !first; }
  void push(waiter* w) {
    if (first) second = w;
    else first = w;
  }
  waiter* pop() {
    waiter* w = first;
    if (!w) return nullptr;
    first = second;
    second = nullptr;
    return w;
  }
  void remove(waiter* w) {
    waiter* other = second;
    if (first == w) first = other;
    second = nullptr;
  }
};

struct mutexes : world {
  modelled::atomic<std::uint32_t> state{0u};
  modelled::lock lock;
  queue q;
  waiter w[2]; // of threads 1 and 2
  modelled::plain<unsigned> data{0u};
  bool old_way = false, leaves_at_once = false, starves = false;
  mutexes(memory of, site without, unsigned threads) : world(of, without) {
    n_threads_ = threads;
    name(state, "state");
    name(lock, "queue_lock");
    name(q.first, "first");
    name(q.second, "second");
    name(data, "data");
    for (auto& one : w) name(one.ok, "ok"), name(one.word, "word"), name(one.too_late, "too_late");
  }
  bool cas(std::uint32_t from, std::uint32_t to, std::memory_order o, site at) {
    return modelled::cas(state, from, to, o, at);
  }
  void own() {
    claim(0);
    data = 1u;
    drop(0);
  }
  // As sync/sync.cpp and grt/mutex.hpp have it, without the spinning.
  bool acquire(waiter& me, bool limited = false) {
    if (cas(0, mutex_locked, std::memory_order_acquire, site::mutex_lock)) return true;
    for (bool again = false;; again = true) {
      std::uint32_t s;
      if (!(again && leaves_at_once) && take_free<modelled>(state, again, s)) return true;
      lock.take();
      if (limited && me.too_late) {
        lock.unlock();
        return false;
      }
      if (!must_queue<modelled>(state, q, starves)) {
        lock.unlock();
        continue;
      }
      me.ok = waiting;
      q.push(&me);
      foreign_publish<modelled>(me.word);
      lock.unlock();
      foreign_wait<modelled>(me.word);
      unsigned ok = me.ok;
      if (ok != woken) return ok == handed;
    }
  }
  void release() {
    while (!cas(mutex_locked, 0, std::memory_order_release, site::mutex_unlock)) {
      lock.take();
      auto told = [](waiter* one, bool over) { one->ok = over ? handed : woken; };
      if (old_way && q.empty()) {
        modelled::fetch_and(state, ~std::uint32_t{mutex_queued | mutex_starving}, memory_order_relaxed);
        lock.unlock();
        modelled::fetch_and(state, ~std::uint32_t{mutex_locked}, std::memory_order_release);
        return;
      }
      waiter* one = grt::protocol::unlock_slow<modelled>(state, q, told, [&] { lock.unlock(); });
      if (one) return grt::protocol::foreign_ready<modelled>(one->word);
    }
  }
  // On its timer.
  void expire(waiter& one) {
    lock.take();
    one.too_late = true;
    bool stands = one.ok == waiting;
    if (stands) {
      q.remove(&one);
      one.ok = expired;
    }
    lock.unlock();
    if (stands) grt::protocol::foreign_ready<modelled>(one.word);
  }
  std::string at_rest() override {
    for (unsigned t = 1; t < n_threads_; t++)
      if (sleeps(t)) return "one waits for ever";
    return value(state) & mutex_locked ? "it stays locked" : "";
  }
};

// Thread 0 holds it; who waited has left its flag behind, and another one comes.
struct stale_flag : mutexes {
  stale_flag(memory of, site without, bool old = false) : mutexes(of, without, 2) {
    begins_as(state, mutex_locked | mutex_queued);
    old_way = old;
  }
  void program(unsigned t) override {
    if (t) acquire(w[0]);
    own();
    release();
  }
};
// One waits with a limit that ends at any time, and then another one comes.
struct limited : mutexes {
  limited(memory of, site without, bool impatient = false) : mutexes(of, without, 3) {
    begins_as(state, std::uint32_t{mutex_locked});
    starves = impatient;
  }
  void program(unsigned t) override {
    if (t == 2) expire(w[0]);
    if (t && !acquire(w[t - 1], t == 1)) return;
    own();
    release();
  }
};
struct leaving : limited {
  leaving(memory of, site without) : limited(of, without) { leaves_at_once = true; }
};
struct starving : limited {
  starving(memory of, site without) : limited(of, without, true) {}
};

TEST(Mutex, StaleFlag_Holds) { expect_holds<stale_flag>("stale flag", 100, true); }
TEST(Mutex, Limited_Holds) { expect_holds<limited>("limited", 1000, true); }
TEST(Mutex, Starving_Holds) { expect_holds<starving>("starving", 1000, true); }
TEST(Mutex, AnUnlockThatFindsNobodyAndDoesNotBeginAgain_Fails) {
  for (memory of : {memory::tso, memory::weak}) {
    result r = stale_flag(of, site::none, true).explore();
    EXPECT_EQ(r.failure, "one waits for ever") << text(r);
  }
}

TEST(Mutex, AWokenOneWhoseTimeIsOverAndThatDoesNotTryIt_Fails) {
  for (memory of : {memory::tso, memory::weak}) {
    result r = leaving(of, site::none).explore();
    EXPECT_EQ(r.failure, "one waits for ever") << text(r);
  }
}

struct MutexWithout : testing::TestWithParam<fault> {};
TEST_P(MutexWithout, Fails) { expect_fails<stale_flag, limited>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(One, MutexWithout, testing::ValuesIn(faults({}, {site::mutex_lock, site::mutex_unlock})),
                         fault_name);
} // namespace
