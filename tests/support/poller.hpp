// tests/support/poller.hpp - a small poller behind the port: an eventfd, and goroutines that wait until they are fired.
#pragma once
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

#include <grt/runtime.hpp>

#include "sched/core/poller.hpp"
#include "sched/core/sched.hpp"

using grt::G;

struct waiting_room {
  grt::spin_lock lock;
  G *waits = nullptr, *fired = nullptr;
  std::atomic<unsigned> waiting{0};
  std::atomic<unsigned> polls{0}, polling{0}, too_many{0};
  std::atomic<int> fd{-1};
};
inline waiting_room room;

inline G* room_wait(std::int64_t ns) noexcept {
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
  room.lock.tsan_acquire();
  room.polling--;
  for (G* g = room.fired; g; g = g->link) room.waiting--; // armed until it has been handed over
  return std::exchange(room.fired, nullptr);
}
inline void room_interrupt() noexcept {
  std::uint64_t one = 1;
  if (write(room.fd, &one, sizeof one) != static_cast<ssize_t>(sizeof one)) std::abort();
}
inline constexpr grt::poller in_room{room_wait, room_interrupt, []() noexcept { return room.waiting.load() != 0; }};

inline void await_fire() {
  G* g = grt::self();
  grt::hold();
  room.lock.lock();
  room.lock.tsan_acquire();
  g->link = std::exchange(room.waits, g);
  if (room.waiting++ == 0) grt::poller_armed();
  room.lock.tsan_release(); // the switch releases it
  grt::park(g, grt::release_of(&room.lock), grt::wait_reason::sleep);
}
// Any thread. false: nobody waits yet.
inline bool fire_one() {
  {
    grt::held_guard hold(room.lock);
    room.lock.tsan_acquire();
    G* g = room.waits;
    if (!g) return false;
    room.waits = g->link;
    g->link = std::exchange(room.fired, g);
  }
  room_interrupt();
  return true;
}
/// Once in a process.
inline void use_room() {
  room.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  grt::procs(); // the runtime runs
  grt::set_poller(in_room);
}
