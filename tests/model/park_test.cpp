// tests/model/park_test.cpp - the hand-over of a waiter: nobody is resumed before it is saved, and none is forgotten.
#include "sched/protocol/sleep.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;

// A queue for one, guarded by a lock, and the event it is for.
struct queue {
  modelled::lock lock;
  modelled::plain<bool> event{false}, waits{false};
  explicit queue(const std::string& called) {
    current->name(lock, called + ".lock");
    current->name(event, called + ".event");
    current->name(waits, called + ".waits");
  }
  /// true: somebody is to be woken, and is the caller's to wake.
  bool fire() {
    modelled::guard hold(lock);
    event = true;
    bool has = waits;
    if (has) waits = false;
    return has;
  }
};

// Thread 0 runs a goroutine that parks; thread 1 wakes it and runs it.
struct park : world {
  queue q{"q"};
  modelled::plain<bool> saved{false};
  bool early; // the lock is released before the registers are saved
  park(memory m, site without, bool early_release = false) : world(m, without), early(early_release) {
    name(saved, "saved");
  }
  void program(unsigned t) override {
    if (t == 0) {
      q.lock.take();
      if (q.event) {
        q.lock.unlock();
        return ran(0);
      }
      q.waits = true;
      if (early) far_side<modelled>(q.lock);
      saved = true;
      if (!early) far_side<modelled>(q.lock);
    } else if (q.fire()) {
      check(saved, "a goroutine is resumed before its registers are saved");
      ran(0);
    }
  }
  std::string at_rest() override { return note(0) == 1 ? "" : "the goroutine never runs again"; }
};
struct hasty : park {
  hasty(memory m, site without) : park(m, without, true) {}
};

// A thread of its own waits twice on one word; whoever woke it first may still be about to call the kernel.
struct foreign : world {
  queue q[2]{queue("q0"), queue("q1")};
  modelled::atomic<std::uint32_t> word{0u};
  modelled::plain<bool> told[2]{false, false}; // what the waker leaves for it
  foreign(memory m, site without) : world(m, without) {
    n_threads_ = 3;
    name(word, "word");
    for (auto& t : told) name(t, "told");
  }
  void program(unsigned t) override {
    if (t) {
      if (!q[t - 1].fire()) return;
      told[t - 1] = true;
      return grt::protocol::foreign_ready<modelled>(word);
    }
    for (unsigned i = 0; i < 2; i++) {
      q[i].lock.take();
      bool parks = !q[i].event;
      if (parks) {
        q[i].waits = true;
        foreign_publish<modelled>(word);
      }
      q[i].lock.unlock();
      if (!parks) continue;
      grt::protocol::foreign_wait<modelled>(word);
      check(told[i], "it goes on before it was woken");
    }
    ran(0);
  }
  std::string at_rest() override { return note(0) == 1 ? "" : "the thread sleeps for ever"; }
};

TEST(Park, Goroutine_Holds) { expect_holds<park>("park", 10); }
TEST(Park, Foreign_Holds) { expect_holds<foreign>("foreign", 100); }
TEST(Park, LockReleasedBeforeTheSave_Fails) {
  for (memory m : {memory::tso, memory::weak}) EXPECT_NE(hasty(m, site::none).explore().failure, "");
}

struct ParkWithout : testing::TestWithParam<fault> {};
TEST_P(ParkWithout, Fails) { expect_fails<park, foreign>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(One, ParkWithout,
                         testing::ValuesIn(faults({}, {site::far_side, site::foreign_wait, site::foreign_ready,
                                                       site::spin_lock, site::spin_unlock})),
                         fault_name);

TEST(Sites, EachIsTakenAwaySomewhere) {
  for (int i = 1; i < static_cast<int>(site::count); i++)
    EXPECT_TRUE(tested().count(static_cast<site>(i))) << name_of(static_cast<site>(i));
}
} // namespace
