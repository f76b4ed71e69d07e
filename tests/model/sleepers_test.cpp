// tests/model/sleepers_test.cpp - watch and submit: no push and no timer is missed by all who sleep.
#include "sched/protocol/sleep.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;
using std::memory_order_acquire;
using std::memory_order_relaxed;

constexpr std::uint64_t never = 9, polls = 8;

struct M {
  modelled::atomic<std::uint32_t> asleep{0u};
  modelled::plain<bool> woken_as_watcher{false};
  modelled::plain<unsigned> left{0u}; // how often it has left work that it saw to its owner
};

// As an epoll instance with an eventfd in it: both make it readable until somebody has polled.
struct polled {
  modelled::atomic<std::uint32_t> readable{0u};
  void interrupt() {
    modelled::store(readable, 1u, std::memory_order_release);
    modelled::futex_wake(readable);
  }
  void wait() {
    modelled::futex_wait(readable, 0);
    modelled::exchange(readable, 0u, std::memory_order_acquire);
  }
};

struct sleeping : world {
  modelled::atomic<std::uint32_t> need_watch{0u};
  polled poller;
  grt::protocol::sleepers<modelled, M, polled> idle{need_watch, poller};
  M m[2];
  modelled::atomic<unsigned> queued; // the rings' tails, as others see them
  modelled::atomic<std::uint64_t> timer{never};
  modelled::atomic<unsigned> waited_for{0u}, event{0u}; // armed; what was waited for has come
  bool may_poll = false;
  unsigned first_sleeper = 1; // its thread
  bool told = true;           // every push is followed by a notify
  unsigned made = 0;          // Ms, if the leader polls while one of them is not in the list
  unsigned hints = 0;         // so often an M may leave the work that it sees to its owner

  sleeping(memory of, site without, unsigned threads = 2, unsigned pushed = 0) : world(of, without), queued(pushed) {
    n_threads_ = threads;
    name(need_watch, "need_watch");
    name(idle.lock, "idle.lock");
    name(idle.n, "idle.n");
    name(idle.watcher, "idle.watcher");
    name(idle.leader, "idle.leader");
    name(queued, "queued");
    name(timer, "timer");
    for (int i = 0; i < 2; i++) {
      std::string at = "M" + std::to_string(i) + ".";
      name(m[i].asleep, at + "asleep");
      name(m[i].woken_as_watcher, at + "woken_as_watcher");
    }
  }

  void notify() {
    if (must_wake<modelled>(need_watch)) (void)idle.wake_one_to_watch();
  }
  void push(unsigned n) {
    modelled::store(queued, n, memory_order_relaxed);
    notify();
  }
  void add_timer(std::uint64_t when) {
    modelled::store(timer, when, memory_order_relaxed);
    idle.timer_added(when);
  }
  void arm() {
    modelled::store(waited_for, 1u, memory_order_relaxed);
    idle.armed();
  }
  void happens() {
    modelled::store(event, 1u, memory_order_relaxed);
    poller.interrupt();
  }
  bool armed() { return may_poll && modelled::load(waited_for, memory_order_relaxed); }
  unsigned index(M* one) const { return static_cast<unsigned>(one - m); }
  bool anything(M& me) {
    if (modelled::load(queued, memory_order_relaxed) == 0) return false;
    unsigned left = me.left;
    if (left == hints || !current->perform({action::choose, 0, false, false, 2})) return true;
    me.left = left + 1;
    return false;
  }
  bool somebody_runs() {
    if (!made) return false;
    modelled::guard hold(idle.lock);
    return idle.n < made;
  }

  // As sched/core/idle.cpp has it. Returns awake.
  void sleep(M& me) {
    idle.line_up(&me);
    if (anything(me) && idle.withdraw(&me)) return;
    if (somebody_runs()) idle.timer_added(polls);
    for (;;) {
      from_here(1);
      if (idle.woken(&me)) return;
      if (idle.leads(&me)) {
        std::uint64_t until = modelled::load(timer, memory_order_relaxed);
        if (somebody_runs()) until = std::min(until, polls);
        bool polls = armed();
        if (!idle.will_sleep_until(&me, until, !polls)) continue;
        if (modelled::load(timer, memory_order_relaxed) < until) continue;
        if (!polls && armed()) continue;
        mark(index(&me), static_cast<unsigned>(until)); // what it sleeps for
        if (polls && idle.enter_poller(&me)) {
          poller.wait();
          idle.leave_poller(&me);
          if (modelled::exchange(event, 0u, memory_order_acquire) && idle.withdraw(&me)) return;
          continue;
        }
      } else {
        mark(index(&me), never);
      }
      modelled::futex_wait(me.asleep, deep);
    }
  }
  // Awake again, it looks; what it leaves to others it tells.
  void search(M& me) {
    for (;;) {
      from_here(0);
      if (anything(me)) return;
      sleep(me);
      if (me.woken_as_watcher && idle.become_watcher(&me)) {
        idle.resign();
        if (anything(me)) notify();
      }
    }
  }

  std::string at_rest() override {
    unsigned asleep = 0, all = n_threads_ - first_sleeper;
    for (unsigned i = 0; i < all; i++) asleep += sleeps(first_sleeper + i);
    if (told && !hints && value(queued) && asleep == all) return "work waits and everybody sleeps";
    if (hints && value(queued) && asleep == all && note(index(value(idle.leader))) > polls)
      return "work waits and nobody will look";
    if (asleep != value(idle.n)) return "the list is not what sleeps";
    if (value(need_watch) != (asleep && !value(idle.watcher))) return "W1";
    if (!asleep) return "";
    M* leader = value(idle.leader);
    if (!leader || !sleeps(first_sleeper + index(leader))) return "W2";
    if (value(timer) < note(index(leader))) return "nobody wakes for the timer";
    if (may_poll && value(waited_for) && value(leader->asleep) != polling) return "armed, and nobody polls";
    if (value(event)) return "what was waited for has come, and everybody sleeps";
    return "";
  }
};

struct submit : sleeping {
  submit(memory of, site without) : sleeping(of, without) {}
  void program(unsigned t) override { t ? search(m[0]) : push(1); }
};
struct submit_twice : sleeping {
  submit_twice(memory of, site without) : sleeping(of, without) {}
  void program(unsigned t) override {
    if (t) return search(m[0]);
    push(1);
    push(2);
  }
};
struct submit_to_two : sleeping {
  submit_to_two(memory of, site without) : sleeping(of, without, 3) {}
  void program(unsigned t) override { t ? search(m[t - 1]) : push(1); }
};
struct timers : sleeping {
  timers(memory of, site without) : sleeping(of, without) {}
  void program(unsigned t) override {
    if (t) return search(m[0]);
    add_timer(5);
    add_timer(3);
  }
};
// The leader finds work and goes: its heir must come to know of the timer.
struct heirs : sleeping {
  heirs(memory of, site without) : sleeping(of, without, 3) { told = false; }
  void program(unsigned t) override {
    if (t) return search(m[t - 1]);
    modelled::store(queued, 1u, memory_order_relaxed); // one may see it; nobody is told
    add_timer(5);
  }
};

// The leader sleeps in the poller: a push, a timer and an event reach it there.
struct polling_world : sleeping {
  polling_world(memory of, site without, unsigned threads = 2) : sleeping(of, without, threads) {
    may_poll = true;
    begins_as(waited_for, 1u);
    name(waited_for, "waited_for");
    name(event, "event");
    name(poller.readable, "poller");
  }
};
struct submit_to_poller : polling_world {
  submit_to_poller(memory of, site without) : polling_world(of, without) {}
  void program(unsigned t) override { t ? search(m[0]) : push(1); }
};
struct timers_of_poller : polling_world {
  timers_of_poller(memory of, site without) : polling_world(of, without) {}
  void program(unsigned t) override {
    if (t) return search(m[0]);
    add_timer(5);
    add_timer(3);
  }
};
struct event_comes : polling_world {
  event_comes(memory of, site without) : polling_world(of, without) {}
  void program(unsigned t) override { t ? search(m[0]) : happens(); }
};
// The poller is armed while its leader may be asleep on its futex.
struct arms : polling_world {
  arms(memory of, site without) : polling_world(of, without) { begins_as(waited_for, 0u); }
  void program(unsigned t) override {
    if (t) return search(m[0]);
    arm();
    happens();
  }
};
// M0 polls already. Another thread wakes it to watch, or an event lets it go by itself, while M1 lines up and becomes the
// leader: the seat goes over, and no interrupt goes to the wrong one.
struct seat_goes_over : polling_world {
  bool pushes;
  seat_goes_over(memory of, site without, bool by_push = true) : polling_world(of, without, 3), pushes(by_push) {
    told = false; // M0 looks no further, so work may be left
    begins_as(need_watch, 1u);
    begins_as(idle.n, 1u);
    begins_as(idle.list[0], &m[0]);
    begins_as(idle.leader, &m[0]);
    begins_as(idle.seat, &m[0]);
    begins_as(m[0].asleep, polling);
  }
  void program(unsigned t) override {
    if (t == 0) {
      if (pushes) (void)idle.wake_one_to_watch();
      return happens();
    }
    if (t == 2) return sleep(m[1]);
    for (bool polls = true; polls;) {
      from_here(2);
      poller.wait();
      idle.leave_poller(&m[0]);
      if (modelled::exchange(event, 0u, memory_order_acquire) && idle.withdraw(&m[0])) return;
      polls = !idle.woken(&m[0]) && idle.enter_poller(&m[0]);
    }
    // Woken, or it finds the seat taken, which only somebody else can have done that leads.
  }
};
struct seat_after_event : seat_goes_over {
  seat_after_event(memory of, site without) : seat_goes_over(of, without, false) {}
};

// An M pushes and computes on; who sees it may leave it alone. Then the one that leads polls.
struct left_alone : sleeping {
  left_alone(memory of, site without) : sleeping(of, without) {
    hints = 3;
    made = 2;
  }
  void program(unsigned t) override { t ? search(m[0]) : push(1); }
};
// The same with two that see it. It was pushed before either of them slept.
struct left_alone_by_two : sleeping {
  left_alone_by_two(memory of, site without) : sleeping(of, without, 2, 1) {
    hints = 2;
    made = 3;
    first_sleeper = 0;
  }
  void program(unsigned t) override { search(m[t]); }
};
// All Ms but the pusher's have slept for good, their leader without a poll, when the pusher's leaves the list; a second
// one comes to watch, finds nothing, and goes back to sleep.
struct leader_slept_for_good : world {
  modelled::atomic<std::uint32_t> need_watch{0u};
  polled poller;
  grt::protocol::sleepers<modelled, M, polled> idle{need_watch, poller};
  M m[3];
  leader_slept_for_good(memory of, site without) : world(of, without) { n_threads_ = 1; }
  void program(unsigned) override {
    for (M& one : m) idle.line_up(&one);
    M* leader = idle.leader;
    check(idle.will_sleep_until(leader, never, true), "it leads");
    check(!idle.woken(leader), "nobody has woken it");
    (void)idle.wake_one_to_watch(); // and it computes from now on
    idle.resign();
    (void)idle.wake_one_to_watch();
    M* second = nullptr;
    for (M& one : m)
      if (&one != leader && one.woken_as_watcher) second = &one; // the newer
    check(second && idle.become_watcher(second), "it watches");
    idle.resign();
    idle.line_up(second);
    idle.timer_added(polls);
    std::uint32_t state = modelled::load(leader->asleep, memory_order_relaxed);
    check(state == napping, "the leader does not know that somebody runs");
  }
};

// One after the other, with three: whoever is woken as the watcher is not the leader, wherever that stands in the list.
struct leaders : world {
  modelled::atomic<std::uint32_t> need_watch{0u};
  polled poller;
  grt::protocol::sleepers<modelled, M, polled> idle{need_watch, poller};
  M m[3];
  leaders(memory of, site without) : world(of, without) { n_threads_ = 1; }
  void program(unsigned) override {
    for (M& one : m) idle.line_up(&one);
    M* first = idle.leader;
    check(first == &m[0] && idle.withdraw(first), "the first one leads");
    for (unsigned left = 2; left; left--) {
      M* leader = idle.leader;
      check(leader && leader != first && idle.leads(leader), "W2");
      (void)idle.wake_one_to_watch();
      check(idle.woken(leader) == (left == 1), "the leader goes last");
      idle.resign();
    }
    check(!idle.leader && !idle.n, "nobody is left");
  }
};

TEST(Sleepers, Leaders_Hold) { expect_holds<leaders>("leaders", 10); }
TEST(Sleepers, LeaderSleptForGood_IsTold) { expect_holds<leader_slept_for_good>("leader slept for good", 10); }
TEST(Sleepers, LeftAlone_Holds) { expect_holds<left_alone>("left alone", 1000); }
TEST(Sleepers, LeftAloneByTwo_Holds) { expect_holds<left_alone_by_two>("left alone by two", 1000); }
TEST(Sleepers, Submit_Holds) { expect_holds<submit>("submit", 100); }
TEST(Sleepers, SubmitTwice_Holds) { expect_holds<submit_twice>("submit twice", 1000); }
TEST(Sleepers, SubmitToTwo_Holds) { expect_holds<submit_to_two>("submit to two", 100000); }
TEST(Sleepers, Timers_Holds) { expect_holds<timers>("timers", 1000); }
TEST(Sleepers, SubmitToPoller_Holds) { expect_holds<submit_to_poller>("submit to the poller", 100); }
TEST(Sleepers, TimersOfPoller_Holds) { expect_holds<timers_of_poller>("timers of the poller", 1000); }
TEST(Sleepers, EventComes_Holds) { expect_holds<event_comes>("an event comes", 100); }
TEST(Sleepers, Arms_Holds) { expect_holds<arms>("arms", 1000); }
TEST(Sleepers, SeatGoesOver_Holds) { expect_holds<seat_goes_over>("the seat goes over", 1000); }
TEST(Sleepers, SeatAfterEvent_Holds) { expect_holds<seat_after_event>("the seat, after an event", 1000); }
TEST(Sleepers, Heirs_Holds) { expect_holds<heirs>("heirs", 50000); }

struct SleepersWithout : testing::TestWithParam<fault> {};
TEST_P(SleepersWithout, Fails) { expect_fails<submit, timers, submit_to_two, heirs, arms>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(One, SleepersWithout,
                         testing::ValuesIn(faults({site::notify_fence, site::sleep_fence, site::timer_fence,
                                                   site::leader_fence, site::arm_fence},
                                                  {site::notify_fence, site::sleep_fence, site::timer_fence,
                                                   site::leader_fence, site::arm_fence, site::sleep_look, site::wake})),
                         fault_name);
} // namespace
