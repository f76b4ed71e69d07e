// tests/debug/mutexwatch_program.cpp - for mutexwatch_test.sh. Each function says in its name what is to be said of it;
// the locks are the functions' own, so that nobody waits for one.
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include <grt/grt.hpp>

#define PLACE GRT_DETAIL_NOINLINE void
#define STAYS asm volatile("") // not a tail call: its frame is looked for

namespace {
using namespace std::chrono_literals;
using grt::attr, grt::run;

grt::chan<int> full() {
  grt::chan<int> c(1);
  c.send(1);
  return c;
}
// Nobody sends before the receiver waits.
void waits_in_recv() {
  grt::chan<int> c;
  grt::go([=] {
    auto waits = [](const grt::debug::goroutine_info& g) { return g.wait_reason == "chan receive"; };
    while (!std::ranges::any_of(grt::debug::snapshot(), waits)) grt::yield();
    c.send(1);
  });
  c.recv();
}
} // namespace

extern "C" {
std::mutex one, two, three, ended, many[20]; // more than fit into one list
std::shared_mutex shared;
pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;

// Told: held across ...
PLACE told_recv() {
  std::lock_guard hold(one);
  waits_in_recv();
}
PLACE told_sleep() {
  std::unique_lock hold(two);
  grt::sleep_for(1ms);
}
PLACE told_yield() {
  std::lock_guard hold(three);
  grt::yield();
}
PLACE told_read() {
  std::shared_lock hold(shared);
  waits_in_recv();
}
PLACE told_write() {
  (new std::shared_mutex)->lock(); // never unlocked: on another thread that breaks it, in glibc at least
  waits_in_recv();
  STAYS;
}
PLACE told_trylock() {
  if (pthread_mutex_trylock(&plain)) std::abort();
  waits_in_recv();
  pthread_mutex_unlock(&plain);
}
PLACE told_blocking() {
  std::lock_guard hold(one);
  grt::blocking([] {});
}
PLACE told_pin() {
  std::lock_guard hold(one);
  grt::this_goroutine::pin();
}
PLACE told_unpin() {
  std::lock_guard hold(two);
  grt::this_goroutine::unpin();
}
PLACE told_end() {
  ended.lock();
  STAYS;
}
PLACE told_after_wait() { // the entry made by lock() outlives a wait
  std::condition_variable c;
  std::unique_lock hold(one);
  bool done = false;
  std::thread t([&] {
    std::lock_guard hold(one);
    done = true;
    c.notify_one();
  });
  c.wait(hold, [&] { return done; });
  waits_in_recv();
  hold.unlock();
  t.join();
}
PLACE told_unlocked_elsewhere(std::mutex& m) {
  m.lock();
  waits_in_recv();
  STAYS;
}
PLACE told_then() { // what was told takes no room
  std::lock_guard hold(two);
  waits_in_recv();
}

// Not told.
PLACE quiet_let_go() {
  for (int i = 0; i < 20; i++) {
    std::lock_guard hold(one);
    std::shared_lock also(shared);
  }
  waits_in_recv();
}
PLACE quiet_ready() { // what can be had needs no wait
  std::lock_guard hold(one);
  full().recv();
}
PLACE quiet_crossed() { // let go in another order
  one.lock();
  two.lock();
  one.unlock();
  two.unlock();
  waits_in_recv();
}
PLACE quiet_waited() {
  std::condition_variable c;
  std::unique_lock hold(one);
  c.wait_for(hold, 1ms);
  c.wait_until(hold, std::chrono::system_clock::now() + 1ms);
  hold.unlock();
  waits_in_recv();
}
PLACE quiet_in_blocking() {
  grt::blocking([] { std::lock_guard hold(one); });
}
PLACE quiet_pinned() {
  std::lock_guard hold(one);
  waits_in_recv();
  grt::yield();
  grt::blocking([] {});
}
PLACE quiet_thread() {
  std::lock_guard hold(one);
  grt::chan<int> c;
  grt::go([=] { c.send(1); });
  c.recv();
  grt::sleep_for(1ms);
}
}

int main() {
  for (int i = 0; i < 3; i++) {
    run(attr{.name = "first"}, told_recv);
    run(attr{.name = "second"}, told_sleep);
    run(attr{.name = "third"}, told_yield);
    run(attr{.name = "reader"}, told_read);
    run(attr{.name = "writer"}, told_write);
    run(told_trylock);
    run(told_blocking);
    run([] {
      told_pin();
      told_unpin();
    });
    run(told_end);
    ended.unlock();
    run(told_after_wait);
    run([] {
      for (std::mutex& m : many) told_unlocked_elsewhere(m);
    });
    for (std::mutex& m : many) m.unlock();
    run(told_then);
    run(quiet_let_go);
    run(quiet_ready);
    run(quiet_crossed);
    run(quiet_waited);
    run(quiet_in_blocking);
    run(attr{.pinned = true}, quiet_pinned);
    std::thread(quiet_thread).join();
    quiet_thread();
  }
  std::puts("done");
  return 7;
}
