// tests/sync/lifetime_test.cpp - whoever returns from a wait may destroy what it waited on, at once.
//
// Each round builds an object in a place, lets somebody else wake us, destroys it and fills the place with 0xDB; before
// the place is built on again, several rounds later, every byte must still be 0xDB: a waker that writes late is seen in
// any build, one that reads late under ASan and TSan. A channel's memory comes from operator new, which is replaced
// here and keeps what is freed for a while, to the same end. Four goroutines and a thread do this at once. 700,000
// rounds in all; GRT_TEST_ROUNDS asks for another number, and tools/dev nightly for ten million.
#include "tests/support/fixture.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <thread>

#include <malloc.h>

namespace {
constexpr unsigned char dead = 0xDB;
std::atomic<long> touched_late{0};

void bury(void* p, std::size_t n) noexcept { std::memset(p, dead, n); }
void inspect(const unsigned char* p, std::size_t n) noexcept {
  if (!std::all_of(p, p + n, [](unsigned char b) { return b == dead; })) touched_late++;
}

#ifndef GRT_TEST_SANITIZED
struct {
  std::mutex m;
  void* block[64] = {};
  unsigned at = 0;
} graves;
#endif
} // namespace

#ifndef GRT_TEST_SANITIZED
void* operator new(std::size_t n, std::align_val_t a) {
  if (void* p = std::aligned_alloc(static_cast<std::size_t>(a),
                                   (n + static_cast<std::size_t>(a) - 1) & ~(static_cast<std::size_t>(a) - 1)))
    return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  try {
    return operator new(n, a);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* p, std::align_val_t) noexcept {
  if (!p) return;
  bury(p, malloc_usable_size(p));
  {
    std::lock_guard hold(graves.m);
    std::swap(p, graves.block[graves.at++ % std::size(graves.block)]);
  }
  if (!p) return;
  inspect(static_cast<unsigned char*>(p), malloc_usable_size(p));
  std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept { operator delete(p, a); }
#endif

namespace {
using namespace grt;
using namespace std::chrono_literals;

class Lifetime : public GrtTest {
protected:
  void TearDown() override {
    GrtTest::TearDown();
    EXPECT_EQ(touched_late.exchange(0), 0);
  }
};

template <class T> class place {
public:
  place() { bury(room_, sizeof room_); }
  ~place() { wait_until_free(); }
  template <class... A> T* build(A&&... args) {
    wait_until_free();
    used_.store(true, std::memory_order_relaxed);
    return ::new (static_cast<void*>(room_)) T(std::forward<A>(args)...);
  }
  void raze(T* p) {
    p->~T();
    bury(room_, sizeof room_);
    used_.store(false, std::memory_order_release);
  }

private:
  void wait_until_free() {
    while (used_.load(std::memory_order_acquire)) yield();
    inspect(room_, sizeof room_);
  }
  alignas(T) unsigned char room_[sizeof(T)];
  std::atomic<bool> used_{false};
};

constexpr int kinds = 7;
int rounds() {
  if (const char* s = std::getenv("GRT_TEST_ROUNDS")) return std::max(1, std::atoi(s) / kinds);
  bool migrates = std::getenv("GRT_DEBUG"); // each switch costs two futex calls
  return scaled(migrates ? 5000 : 100000);
}

/// round(place, i), `rounds()` times, from four goroutines and a thread, each with eight places on its stack.
template <class T, class F> void repeat(F round) {
  int n = rounds();
  auto lane = [&](int from, int to) {
    place<T> places[8];
    for (int i = from; i < to; i++) round(places[i % 8], i);
  };
  int few = n / 16; // a thread costs two futex calls a round
  wait_group w;
  for (int g = 0; g < 4; g++) w.go([&, g] { lane(few + (n - few) / 4 * g, few + (n - few) / 4 * (g + 1)); });
  std::thread outside([&] { lane(0, few); });
  outside.join();
  w.wait();
}

TEST_F(Lifetime, WaitGroup) {
  repeat<wait_group>([](place<wait_group>& p, int i) {
    wait_group* w = p.build();
    for (int k = i % 4 ? 1 : 2; k; k--) {
      if (i % 8) {
        w->add(1);
        go([w] { w->done(); });
      } else w->go([] {});
    }
    if (i % 2) w->wait();
    else EXPECT_TRUE(w->wait_for(1h));
    p.raze(w);
  });
}

// Who takes the count to zero under the lock is the last to use it, though another may still be on its way out of
// unlock.
struct counted {
  mutex m;
  int users = 2; // m
};
TEST_F(Lifetime, Mutex) {
  repeat<counted>([](place<counted>& p, int i) {
    counted* c = p.build();
    bool expires = i % 64 == 0; // a wait that does leaves its mark on the state
    auto leave = [&p, c, i, expires](bool first) {
      if (expires && !first) {
        if (!c->m.try_lock_for(10us))
          while (!c->m.try_lock()) yield();
      } else if (i % 4) c->m.lock();
      else EXPECT_TRUE(c->m.try_lock_for(1h));
      bool last = !--c->users;
      if (expires && first) sleep_for(30us);
      else if (i % 16 == 1) yield();
      c->m.unlock();
      if (last) p.raze(c);
    };
    go(leave, false);
    leave(true);
  });
}
struct counted_shared {
  shared_mutex m;
  std::atomic<int> users{2};
};
TEST_F(Lifetime, SharedMutex) {
  repeat<counted_shared>([](place<counted_shared>& p, int i) {
    counted_shared* c = p.build();
    auto leave = [&p, c, i](bool exclusive) {
      bool last = false;
      if (exclusive) {
        std::lock_guard hold(c->m);
        last = --c->users == 0;
        if (i % 16 == 0) yield();
      } else {
        c->m.lock_shared();
        if (i % 16 == 1) yield();
        c->m.unlock_shared();
        std::lock_guard hold(c->m);
        last = --c->users == 0;
      }
      if (last) p.raze(c);
    };
    go(leave, i % 2 == 0);
    leave(i % 3 == 0);
  });
}

TEST_F(Lifetime, Semaphore) {
  using semaphore = counting_semaphore<>;
  repeat<semaphore>([](place<semaphore>& p, int i) {
    int n = i % 4 ? 1 : 2;
    semaphore* s = p.build(0);
    for (int k = 0; k < n; k++) go([s] { s->release(); });
    if (i % 2) s->acquire(n);
    else EXPECT_TRUE(s->try_acquire_for(1h, n));
    p.raze(s);
  });
}

TEST_F(Lifetime, Latch) {
  repeat<latch>([](place<latch>& p, int i) {
    int n = i % 4 ? 1 : 2;
    latch* l = p.build(n);
    for (int k = 0; k < n; k++) go([l] { l->count_down(); });
    if (i % 8 == 7)
      while (!l->try_wait()) yield();
    else l->wait();
    p.raze(l);
  });
}

struct condition {
  mutex m;
  condition_variable changed;
  bool done = false; // m
};
TEST_F(Lifetime, ConditionVariable) {
  repeat<condition>([](place<condition>& p, int i) {
    condition* c = p.build();
    if (i % 4 == 3) { // notified outside the lock: the notifier may still be at it when we are through
      {
        std::unique_lock hold(c->m);
        go([c] {
          { std::lock_guard until_it_waits(c->m); }
          c->changed.notify_one();
        });
        if (i % 8 == 3) c->changed.wait(hold);
        else EXPECT_EQ(c->changed.wait_for(hold, 1h), std::cv_status::no_timeout);
      }
      return p.raze(c);
    }
    go([c, i] {
      std::lock_guard hold(c->m);
      c->done = true;
      i % 2 ? c->changed.notify_one() : c->changed.notify_all();
    });
    {
      std::unique_lock hold(c->m);
      if (i % 4) c->changed.wait(hold, [&] { return c->done; });
      else EXPECT_TRUE(c->changed.wait_for(hold, 1h, [&] { return c->done; }));
    }
    p.raze(c);
  });
}

// The only handle stands in the place: the other side uses it there.
TEST_F(Lifetime, Channel) {
  repeat<chan<int>>([](place<chan<int>>& p, int i) {
    int way = i % 6;
    chan<int>* c = p.build(way == 3 || way == 4 ? 0 : i / 6 % 3);
    switch (way) {
    case 0:
      go([c] { c->send(1); });
      c->recv();
      break;
    case 1:
      go([c] { c->close(); });
      EXPECT_FALSE(c->recv());
      break;
    case 2:
      go([c] { select(on_send(*c, 1), on_timeout(1h)); });
      select(on_recv(*c), on_recv(chan<int>(nil)));
      break;
    case 3:
      go([c] { c->recv(); });
      c->send(1); // handed over
      break;
    case 4:
      go([c] { select(on_recv(*c), on_recv(chan<int>(nil))); });
      while (!c->try_send(1)) yield();
      break;
    case 5:
      go([c] {
        while (!c->try_send(1)) yield();
      });
      EXPECT_EQ(select(on_recv(*c), on_timeout(1h)), 0u);
    }
    p.raze(c);
  });
}
} // namespace
