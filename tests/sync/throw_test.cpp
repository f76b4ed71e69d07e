// tests/sync/throw_test.cpp - waits that end by an exception: the lock of a condition variable throws, or a thread's
// first wait gets no memory. Nobody stands in a queue afterwards, no lock is held, and no wake is lost.
#include "tests/support/fixture.hpp"

#include <pthread.h>

#include <cstdlib>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "sched/goroutine/g.hpp"
#include "sched/goroutine/slab.hpp"
#include "tests/support/attempt.hpp"
#include "tests/support/waiting.hpp"

namespace {
constinit thread_local int refuse_at = 0; // this thread's n-th allocation from now on fails; 0: none
}

#if !GRT_DETAIL_TSAN // whose library has them in one object with what it needs itself
// For the whole program: std::bad_alloc where a test wants it.
[[gnu::noinline]] void* operator new(std::size_t n) {
  if (refuse_at && !--refuse_at) throw std::bad_alloc();
  if (void* p = std::malloc(n ? n : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n,
                                     const std::nothrow_t&) noexcept { // a sanitizer's is not made of the above
  if (refuse_at && !--refuse_at) return nullptr;
  return std::malloc(n ? n : 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace {
using namespace grt;
using namespace std::chrono_literals;
using ConditionThrows = GrtTest;
struct NoMemory : GrtTest {
  void SetUp() override {
#if GRT_DETAIL_TSAN
    GTEST_SKIP() << "ThreadSanitizer's allocator cannot be told to refuse";
#endif
    GrtTest::SetUp();
  }
};
using ThreadEnd = GrtTest;

struct refused : std::runtime_error {
  refused() : std::runtime_error("refused") {}
};
/// A lock whose unlock() does something first, which may throw.
struct picky_lock {
  mutex& m;
  std::function<void()> before;
  void lock() { m.lock(); }
  void unlock() {
    before();
    m.unlock();
  }
};

template <class Wait> void a_lock_that_throws(Wait wait) {
  run([&] {
    mutex m;
    condition_variable c;
    m.lock();
    picky_lock l{m, [] { throw refused(); }};
    for (int i = 0; i < 3; i++) EXPECT_THROW(wait(c, l), refused);
    m.unlock(); // it is locked still
    bool woken = false;
    attempt other([&] {
      std::unique_lock hold(m);
      c.wait(hold);
      woken = true;
    });
    EXPECT_TRUE(other.blocks());
    c.notify_one(); // not to one that is gone
    other.join();
    EXPECT_TRUE(woken);
  });
}
TEST_F(ConditionThrows, UnlockThrows_TheWaiterIsInNoQueue) {
  auto [ctx, cancel] = with_cancel(background());
  a_lock_that_throws([](condition_variable& c, picky_lock& l) { c.wait(l); });
  a_lock_that_throws([](condition_variable& c, picky_lock& l) { c.wait_for(l, 1h); });
  a_lock_that_throws([](condition_variable& c, picky_lock& l) { c.wait_for(l, 0ns); });
  a_lock_that_throws([ctx = ctx](condition_variable& c, picky_lock& l) { c.wait(l, ctx); });
  cancel();
}

TEST_F(ConditionThrows, ALockThatIsNotHeld) {
  mutex m;
  condition_variable c;
  std::unique_lock l(m, std::defer_lock);
  EXPECT_THROW(c.wait(l), std::system_error);
  EXPECT_TRUE(m.try_lock());
  m.unlock();
} // and ~condition_variable finds nobody inside

// Between the queue and the park a notifier may take the waiter. notify_one: the next one gets it. notify_all: whoever
// came later was not meant.
TEST_F(ConditionThrows, NotifiedMeanwhile_NotifyOneGoesOn_NotifyAllDoesNot) {
  run([] {
    for (bool all : {false, true}) {
      mutex m;
      condition_variable c;
      bool woken = false;
      std::optional<attempt> next;
      picky_lock l{m, [&] {
                     if (all) c.notify_all();
                     else c.notify_one();
                     m.unlock();
                     next.emplace([&] {
                       std::unique_lock hold(m);
                       c.wait(hold);
                       woken = true;
                     });
                     EXPECT_TRUE(next->blocks());
                     m.lock();
                     throw refused();
                   }};
      m.lock();
      EXPECT_THROW(c.wait(l), refused);
      m.unlock();
      if (!all) {
        next->join();
        EXPECT_TRUE(woken);
        continue;
      }
      for (int i = 0; i < 10; i++) yield();
      EXPECT_FALSE(next->ended());
      EXPECT_TRUE(next->blocks());
      c.notify_one();
      next->join();
    }
  });
}

TEST_F(ConditionThrows, ExitInUnlock_LeavesTheQueue) {
  run([] {
    mutex m;
    condition_variable c;
    attempt other([&] {
      std::unique_lock hold(m);
      c.wait(hold);
    });
    EXPECT_TRUE(other.blocks());
    wait_group w;
    w.go([&] {
      picky_lock l{m, [&] { grt::exit(); }};
      m.lock();
      defer d{[&] { m.unlock(); }};
      c.wait(l);
    });
    w.wait();
    c.notify_one();
    other.join();
  });
}

// ---- no memory

struct waits {
  chan<int> c, full{1};
  chan<void> signals;
  mutex m;
  shared_mutex s;
  wait_group w;
  counting_semaphore<> sem{0};
  latch l{1};
  barrier<> b{2};
  condition_variable cv;
  once_flag once;
  single_flight<int, int> flight;
  context ctx;
  cancel_func cancel;

  waits() {
    std::tie(ctx, cancel) = with_cancel(background());
    full.send(0);
    m.lock();
    s.lock();
    w.add(1);
  }
  ~waits() {
    m.unlock();
    s.unlock();
    w.done();
    cancel();
  }
  /// Each would block for good.
  std::vector<std::pair<const char*, std::function<void()>>> all() {
    return {
        {"recv", [&] { c.recv(); }},
        {"send", [&] { c.send(1); }},
        {"send full", [&] { full.send(1); }},
        {"recv void", [&] { signals.recv(); }},
        {"send void", [&] { signals.send(); }},
        {"recv_for",
         [&] {
           int x;
           c.recv_for(x, 1h);
         }},
        {"send_for", [&] { c.send_for(1, 1h); }},
        {"recv ctx", [&] { c.recv(ctx); }},
        {"send ctx", [&] { c.send(1, ctx); }},
        {"range",
         [&] {
           for (int x : c) (void)x;
         }},
        {"nil recv", [&] { chan<int>(nil).recv(); }},
        {"select", [&] { select(on_recv(c), on_send(full, 1)); }},
        {"select one", [&] { select(on_recv(c)); }},
        {"select twice", [&] { select(on_recv(c), on_send(c, 1), on_recv(signals)); }},
        {"select timeout", [&] { select(on_recv(c), on_recv(signals), on_timeout(1h)); }},
        {"select none", [&] { select(); }},
        {"mutex", [&] { m.lock(); }},
        {"mutex for", [&] { m.try_lock_for(1h); }},
        {"mutex ctx", [&] { m.lock(ctx); }},
        {"shared_mutex", [&] { s.lock(); }},
        {"shared_mutex shared", [&] { s.lock_shared(); }},
        {"shared_mutex for", [&] { s.try_lock_shared_for(1h); }},
        {"shared_mutex ctx", [&] { s.lock(ctx); }},
        {"wait_group", [&] { w.wait(); }},
        {"wait_group for", [&] { w.wait_for(1h); }},
        {"wait_group ctx", [&] { w.wait(ctx); }},
        {"semaphore", [&] { sem.acquire(); }},
        {"semaphore for", [&] { sem.try_acquire_for(1h); }},
        {"semaphore ctx", [&] { sem.acquire(ctx); }},
        {"latch", [&] { l.wait(); }},
        {"latch ctx", [&] { l.wait(ctx); }},
        {"condition",
         [&] {
           std::mutex mine;
           std::unique_lock hold(mine);
           cv.wait(hold);
         }},
        {"condition for",
         [&] {
           std::mutex mine;
           std::unique_lock hold(mine);
           cv.wait_for(hold, 1h);
         }},
        {"condition ctx",
         [&] {
           std::mutex mine;
           std::unique_lock hold(mine);
           cv.wait(hold, ctx);
         }},
        {"sleep ctx", [&] { sleep_for(1h, ctx); }},
        {"done", [&] { ctx.done().recv(); }},
        {"single_flight", [&] { flight.run(1, [] { return 1; }); }},
        {"go", [&] { go([] {}); }},
    };
  }
};

/// On a thread that has never waited, whose n-th allocation fails. true: f threw for want of memory.
bool throws_on_a_new_thread(const std::function<void()>& f, int n) {
  bool threw = false;
  std::thread([&] {
    refuse_at = n;
    try {
      f();
    } catch (const std::system_error& e) {
      threw = e.code() == std::errc::not_enough_memory;
    } catch (const std::bad_alloc&) {
      threw = true;
    }
    refuse_at = 0;
  }).join();
  return threw;
}

TEST_F(NoMemory, ForAThreadsFirstWait_ItThrows_AndTheRestGoesOn) {
  waits of;
  of.ctx.done(); // makes the channel
  for (auto& [name, wait] : of.all()) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(throws_on_a_new_thread(wait, 1));
  }
  // Nobody stands in a queue, and no lock is held.
  EXPECT_FALSE(of.c.try_send(1));
  std::optional<int> got;
  EXPECT_EQ(of.c.try_recv(got), recv_result::empty);
  EXPECT_EQ(of.full.size(), 1u);
  EXPECT_FALSE(of.signals.try_send());
  EXPECT_EQ(of.signals.try_recv(), recv_result::empty);
  EXPECT_FALSE(of.m.try_lock());
  of.m.unlock();
  of.m.lock();
  EXPECT_FALSE(of.s.try_lock_shared());
  of.s.unlock();
  of.s.lock();
  of.sem.release();
  EXPECT_TRUE(of.sem.try_acquire());
  of.cv.notify_all();
  run([&] {
    attempt receiver([&] { EXPECT_EQ(of.c.recv(), 5); });
    EXPECT_TRUE(receiver.blocks());
    of.c.send(5);
    receiver.join();
  });
}

TEST_F(NoMemory, CallOnce_AThrowLeavesItToTheNext) {
  once_flag once;
  run([&] {
    chan<void> inside, gate;
    attempt first([&] {
      EXPECT_THROW(call_once(once,
                             [&] {
                               inside.send();
                               gate.recv();
                               throw refused();
                             }),
                   refused);
    });
    inside.recv();
    bool ran = false;
    std::function<void()> second = [&] { call_once(once, [&] { ran = true; }); };
    EXPECT_TRUE(blocking([&] { return throws_on_a_new_thread(second, 1); }));
    EXPECT_FALSE(ran);
    gate.send();
    first.join();
    second();
    EXPECT_TRUE(ran);
  });
}

// ~task and ~error_group wait, and may not throw: a thread that starts a goroutine takes what the wait needs first.
TEST_F(NoMemory, ForAThreadThatStartsAGoroutine_ItIsRefusedThere_NotInADestructor) {
  chan<void> gate;
  for (int n = 1; n < 8; n++) {
    std::thread([&] {
      refuse_at = n;
      try {
        auto t = spawn([gate] { gate.recv(); });
        refuse_at = 1; // nothing is left to be taken
        gate.close();
      } catch (const std::system_error&) {
        refuse_at = 0;
        return;
      } catch (const std::bad_alloc&) {
        refuse_at = 0;
        return;
      }
      refuse_at = 0;
    }).join();
    gate = chan<void>();
  }
}

// ---- the end of a thread

/// Slots of threads that grt did not make.
int foreign_slots() {
  int n = 0;
  for (G* g = slab_begin(); g < slab_end(); g++) n += g->kind == g_kind::foreign;
  return n;
}
void wait_once() {
  chan<int> c;
  go([c] { c.send(1); });
  c.recv();
}
struct waits_at_end {
  bool used = false;
  ~waits_at_end() {
    if (used) wait_once();
  }
};
thread_local waits_at_end older, newer;

TEST_F(ThreadEnd, ThreadLocalDestructorsThatWait_LeaveNoSlotBehind) {
  wait_once();
  int before = foreign_slots();
  for (int i = 0; i < 20; i++) {
    std::thread([] {
      older.used = true; // its destructor runs after all that comes later
      wait_once();
      newer.used = true;
    }).join();
    std::thread([] { older.used = newer.used = true; }).join(); // they are the first to wait
  }
  EXPECT_EQ(foreign_slots(), before);
}

// A key's destructor that waits, and sets its key again for the next round: made before ours and after it.
TEST_F(ThreadEnd, KeyDestructorsThatWaitInEachRound_LeaveNoSlotBehind) {
#if GRT_DETAIL_TSAN
  GTEST_SKIP() << "ThreadSanitizer takes its own state from the thread in one of these rounds";
#endif
  wait_once();
  static pthread_key_t key;
  ASSERT_EQ(pthread_key_create(&key,
                               [](void* p) {
                                 wait_once();
                                 auto round = reinterpret_cast<std::uintptr_t>(p);
                                 if (round < 3) pthread_setspecific(key, reinterpret_cast<void*>(round + 1));
                               }),
            0);
  int before = foreign_slots();
  for (int i = 0; i < 20; i++) {
    std::thread([] { pthread_setspecific(key, reinterpret_cast<void*>(1)); }).join();
    std::thread([] {
      wait_once();
      pthread_setspecific(key, reinterpret_cast<void*>(1));
    }).join();
  }
  pthread_key_delete(key);
  EXPECT_EQ(foreign_slots(), before);
}

// Values of grt::local go with the thread's thread_local objects; those that older thread_local objects make go as
// well.
struct counted {
  static inline std::atomic<int> live{0};
  counted() { live++; }
  ~counted() { live--; }
};
local<counted>* values;
struct makes_a_value {
  bool used = false;
  ~makes_a_value() {
    if (used) (void)**values;
  }
};
thread_local makes_a_value late;

TEST_F(ThreadEnd, ThreadLocalDestructorsThatMakeAValue_LeaveNoneBehind) {
  local<counted> l;
  values = &l;
  for (int i = 0; i < 20; i++) {
    std::thread([] {
      late.used = true;
      (void)**values;
    }).join();
    std::thread([] { late.used = true; }).join();
  }
  EXPECT_EQ(counted::live, 0);
}
} // namespace
