// tests/sched/poller_test.cpp - the port to a poller, with a small one behind it: an eventfd, and goroutines that wait
// until somebody fires them.
#include "sched/core/poller.hpp"
#include "tests/support/fixture.hpp"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <poll.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "sched/core/sched.hpp"
#include "tests/support/slow.hpp"

namespace {
using namespace std::chrono_literals;
using grt::G;

struct waiting_room {
  grt::spin_lock lock;
  G *waits = nullptr, *fired = nullptr;
  std::atomic<unsigned> waiting{0};
  std::atomic<unsigned> polls{0}, polling{0}, too_many{0};
  std::atomic<int> fd{-1};
} room;

G* room_wait(std::int64_t ns) noexcept {
  if (room.polling.fetch_add(1) != 0) room.too_many++; // one at a time
  room.polls++;
  timespec limit{ns / 1'000'000'000, ns % 1'000'000'000};
  pollfd one{room.fd, POLLIN, 0};
  if (ppoll(&one, 1, ns < 0 ? nullptr : &limit, nullptr) > 0) {
    std::uint64_t n;
    while (read(room.fd, &n, sizeof n) < 0 && errno == EINTR) {
    }
  }
  grt::spin_guard hold(room.lock);
  room.polling--;
  for (G* g = room.fired; g; g = g->link) room.waiting--; // armed until it has been handed over
  return std::exchange(room.fired, nullptr);
}
void room_interrupt() noexcept {
  std::uint64_t one = 1;
  EXPECT_EQ(write(room.fd, &one, sizeof one), static_cast<ssize_t>(sizeof one));
}
constexpr grt::poller in_room{room_wait, room_interrupt, []() noexcept { return room.waiting.load() != 0; }};

void await_fire() {
  G* g = grt::self();
  grt::hold();
  room.lock.lock();
  g->link = std::exchange(room.waits, g);
  if (room.waiting++ == 0) grt::poller_armed();
  grt::park(g, grt::release_of(&room.lock), grt::wait_reason::sleep);
}
// Any thread. false: nobody waits yet.
bool fire_one() {
  {
    grt::held_guard hold(room.lock);
    G* g = room.waits;
    if (!g) return false;
    room.waits = g->link;
    g->link = std::exchange(room.fired, g);
  }
  room_interrupt();
  return true;
}

class Poller : public GrtTest {
protected:
  void SetUp() override {
    GrtTest::SetUp();
    if (room.fd < 0) {
      room.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
      grt::procs(); // the runtime runs
      grt::set_poller(in_room);
    }
  }
  void TearDown() override {
    EXPECT_EQ(room.too_many, 0u) << "two polled at once";
    EXPECT_EQ(room.waiting, 0u);
    GrtTest::TearDown();
  }
};

TEST_F(Poller, BringsBackWhatItIsFiredFor) {
  const int rounds = scaled(2000);
  grt::wait_group all;
  for (int i = 0; i < 4; i++)
    all.go([rounds] {
      for (int k = 0; k < rounds; k++) await_fire();
    });
  std::thread outside([rounds] {
    for (int k = 0; k < 4 * rounds; k++)
      while (!fire_one()) std::this_thread::yield();
  });
  all.wait();
  outside.join();
  EXPECT_GT(room.polls, 0u);
}

// The leader sleeps in the poller meanwhile.
TEST_F(Poller, TimersAndPushesReachTheOneThatPolls) {
  grt::wait_group waits, all;
  waits.go(await_fire);
  grt::chan<int> c;
  all.go([] {
    for (int i = 0; i < scaled(100); i++) grt::sleep_for(1ms);
  });
  all.go([c] {
    for (int i = 0; i < scaled(300); i++) EXPECT_EQ(c.recv(), i);
  });
  std::thread outside([c] {
    for (int i = 0; i < scaled(300); i++) {
      c.send(i);
      std::this_thread::sleep_for(100us); // so that all are asleep again now and then
    }
  });
  all.wait();
  outside.join();
  while (!fire_one()) std::this_thread::yield();
  waits.wait();
}

// The poller is armed while everybody sleeps on a futex, or is about to.
TEST_F(Poller, ArmedWhileTheLeaderSleeps_IsNoticed) {
  for (int i = 0; i < scaled(50); i++) {
    grt::wait_group w;
    std::this_thread::sleep_for(1ms); // everybody sleeps, on a futex: nothing is armed
    w.go(await_fire);
    while (!fire_one()) std::this_thread::yield();
    w.wait();
  }
}
} // namespace
