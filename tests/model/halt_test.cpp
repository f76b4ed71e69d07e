// tests/model/halt_test.cpp - goroutines stand still: once the halt is complete no bracket lets a goroutine in, whoever
// got the P meanwhile; and once it is lifted nobody is left behind, and no P is two Ms'.
#include "sched/protocol/halt.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;
using std::memory_order_relaxed;

struct M;
struct P {
  modelled::atomic<M*> m{nullptr};
};
struct words_of {
  modelled::atomic<std::uint32_t> holds{0u}, barred{0u};
};
struct M {
  words_of own;
  modelled::atomic<words_of*> words{&own};
  modelled::atomic<std::uint32_t> in{1u}, turn{0u};
  modelled::atomic<lost_state> lost{lost_state::free};
  modelled::plain<P*> p{nullptr};
  modelled::plain<P*> thief{nullptr};
  modelled::plain<bool> computes{false}; // what is known of it while it is adrift
};

struct halting : world {
  P p;
  M m[2];
  modelled::lock thieves;
  modelled::atomic<std::uint32_t> halted{0u}, complete{0u};
  halting(memory of, site without, unsigned threads) : world(of, without) {
    n_threads_ = threads;
    name(p.m, "P.m");
    name(thieves, "thieves");
    name(halted, "halted");
    name(complete, "complete");
    for (unsigned i = 0; i < 2; i++) {
      std::string at = "M" + std::to_string(i) + ".";
      name(m[i].in, at + "in");
      name(m[i].turn, at + "turn");
      name(m[i].lost, at + "lost");
      name(m[i].p, at + "p");
      name(m[i].thief, at + "thief");
      name(m[i].computes, at + "computes");
    }
  }
  void begin(unsigned holder) {
    begins_as(p.m, &m[holder]);
    begins_as(m[holder].p, &p);
  }

  bool enter(M& me) {
    return grt::protocol::enter<modelled>(&me) || answer<modelled>(
                                                      &me, [] {}, [](lost_state) {});
  }
  // g0, inside: switches to a goroutine, which comes to its first bracket. false: the bracket says no.
  bool dispatch(M& me) {
    if (modelled::load(halted, memory_order_relaxed)) await_lift<modelled>(&me, halted);
    grt::protocol::leave<modelled>(&me);
    bool too_late = modelled::load(complete, std::memory_order_acquire) != 0;
    bool entered = enter(me);
    if (!entered) return false;
    check(!too_late, "a goroutine runs on while all stand still");
    claim(0);
    drop(0);
    return true;
  }
  void halt() {
    halt_begins<modelled>(halted);
    (void)stop<modelled>(holder_of<modelled>(&p), thieves);
  }
  void tell_complete() { modelled::store(complete, 1u, std::memory_order_release); }
  void lift() {
    modelled::store(complete, 0u, memory_order_relaxed);
    modelled::store(halted, 0u, memory_order_relaxed);
    let_run<modelled>(holder_of<modelled>(&p));
    modelled::futex_wake(halted);
  }
};

// The P gets another M, which switches to a goroutine, while the halt comes: a lender's keeper, or sysmon's choice.
struct given_meanwhile : halting {
  given_meanwhile(memory of, site without) : halting(of, without, 3) { begin(1); }
  void program(unsigned t) override {
    if (t == 0) {
      await_turn<modelled>(&m[0]);
      dispatch(m[0]);
    } else if (t == 1) {
      give<modelled>(&p, &m[0]);
      give_turn<modelled>(&m[0]);
    } else {
      halt();
      tell_complete();
    }
  }
  std::string at_rest() override { return sleeps(0) && !value(halted) ? "its goroutine never runs" : ""; }
};
// It stands still already, and is told to go on and to stand still again.
struct again : halting {
  again(memory of, site without) : halting(of, without, 2) {
    begin(0);
    begins_as(halted, 1u);
    begins_as(m[0].lost, lost_state::stopped);
  }
  void program(unsigned t) override {
    if (t == 0) return void(dispatch(m[0]));
    lift();
    halt();
    tell_complete();
  }
};
// The same for an M that was nobody's when the halt was lifted: a keeper that has kept `stopped`.
struct stale : halting {
  stale(memory of, site without) : halting(of, without, 2) {
    begin(0);
    begins_as(halted, 1u);
    begins_as(m[0].lost, lost_state::stopped);
  }
  void program(unsigned t) override {
    if (t == 0) return void(dispatch(m[0]));
    modelled::store(halted, 0u, memory_order_relaxed);
    modelled::futex_wake(halted);
    halt();
    tell_complete();
  }
};
// It runs, is stopped, goes on: whatever it was doing, in the end it is inside with its P.
struct lifted : halting {
  lifted(memory of, site without) : halting(of, without, 2) { begin(0); }
  void program(unsigned t) override {
    M& me = m[0];
    if (t == 1) {
      halt();
      return lift();
    }
    if (!dispatch(me)) check(rejoin<modelled>(&me, [&] { return enter(me); }), "nobody has taken its P");
    grt::protocol::leave<modelled>(&me);
    if (!enter(me)) check(rejoin<modelled>(&me, [&] { return enter(me); }), "nobody has taken its P");
    if (modelled::load(halted, memory_order_relaxed)) await_lift<modelled>(&me, halted);
  }
  std::string at_rest() override {
    if (sleeps(0)) return "it sleeps though the halt is lifted";
    return value(m[0].lost) == lost_state::free || value(m[0].lost) == lost_state::stopped ? "" : "its P is lost";
  }
};
// Once the halt is lifted, sysmon takes the P of the M that computes; or that is on its way to g0.
struct handed_off_then : halting {
  handed_off_then(memory of, site without) : halting(of, without, 3) {
    begin(0);
    begins_as(m[0].in, 0u);
    begins_as(m[0].lost, lost_state::stopped);
  }
  void program(unsigned t) override {
    M& me = m[0];
    if (t == 1) return let_run<modelled>(&m[0]);
    if (t == 2) {
      M* to = &m[1];
      if (modelled::load(me.lost, memory_order_relaxed) != lost_state::free) return;
      if (!take_for<modelled>(
              &p, &m[0], lost_state::free, to, thieves, [] { return true; }, [&] { me.computes = true; },
              [] { return false; }))
        return;
      claim(0); // M 1 is inside, for good
      return;
    }
    if (!enter(me) && !rejoin<modelled>(&me, [&] { return enter(me); })) {
      bool told = me.computes;
      return check(told, "it does not know that it is adrift");
    }
    claim(0);
    drop(0);
    grt::protocol::leave<modelled>(&me);
  }
};

TEST(Halt, GivenMeanwhile_Holds) { expect_holds<given_meanwhile>("given meanwhile", 100, true); }
TEST(Halt, Again_Holds) { expect_holds<again>("again", 50, true); }
TEST(Halt, Stale_Holds) { expect_holds<stale>("stale", 50, true); }
TEST(Halt, Lifted_Holds) { expect_holds<lifted>("lifted", 100, true); }
TEST(Halt, HandedOffThen_Holds) { expect_holds<handed_off_then>("handed off then", 100, true); }

struct HaltWithout : testing::TestWithParam<fault> {};
TEST_P(HaltWithout, Fails) { expect_fails<given_meanwhile, again, stale, handed_off_then, lifted>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(One, HaltWithout,
                         testing::ValuesIn(faults({site::halt_fence}, {site::halt_fence}, {site::rejoin})), fault_name);
} // namespace
