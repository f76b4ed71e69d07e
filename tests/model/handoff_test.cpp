// tests/model/handoff_test.cpp - a P that gets another M: it is never two Ms' at once, it is always somebody's, and
// whoever is given it wakes up.
#include "sched/protocol/handoff.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;
using std::memory_order_relaxed;

struct M;
struct P {
  modelled::atomic<M*> m{nullptr};
  modelled::plain<unsigned> n{0u}; // goroutines in its queue
};

struct words_of {
  modelled::atomic<std::uint32_t> holds{0u}, barred{0u};
};

struct M {
  modelled::atomic<std::uint32_t> in{1u}, turn{0u};
  modelled::atomic<lost_state> lost{lost_state::free};
  words_of own;
  modelled::atomic<words_of*> words{&own};
  modelled::plain<P*> thief{nullptr}, p{nullptr};
  modelled::plain<M*> rest_next{nullptr};
  modelled::plain<bool> computes{false};      // what is known of it while it is adrift
  modelled::atomic<std::uint32_t> thread{0u}; // of a slot that had none: started
};

struct handed : world {
  P p;
  M m[2];
  modelled::lock thieves;
  resters<modelled, M> at_rest_;
  handed(memory of, site without, unsigned threads = 3) : world(of, without) {
    n_threads_ = threads;
    name(p.m, "P.m");
    name(p.n, "P.n");
    name(thieves, "thieves");
    name(at_rest_.lock, "resters.lock");
    name(at_rest_.resting, "resting");
    name(at_rest_.threadless, "threadless");
    for (unsigned i = 0; i < 2; i++) {
      std::string at = "M" + std::to_string(i) + ".";
      name(m[i].in, at + "in");
      name(m[i].turn, at + "turn");
      name(m[i].lost, at + "lost");
      name(m[i].thief, at + "thief");
      name(m[i].p, at + "p");
      name(m[i].rest_next, at + "rest_next");
      name(m[i].computes, at + "computes");
      name(m[i].thread, at + "thread");
    }
  }

  // Thread i is M i, 0 at rest, 1 at work on p; what is out there in p's bracket is note 0.
  void begin(unsigned work) {
    begins_as(at_rest_.resting, &m[0]);
    begins_as(p.m, &m[1]);
    begins_as(m[1].p, &p);
    begins_as(m[1].in, 0u);
    begins_as(p.n, work);
  }
  void come_in() { claim(0); }
  void go_out() { drop(0); }
  void run_one() {
    if (unsigned n = p.n) {
      ran(n);
      p.n = n - 1;
    }
  }
  /// false: its P is gone.
  bool work(M& me) {
    auto donate = [&] { check(false, "nobody asks"); };
    if (!grt::protocol::enter<modelled>(&me) && !answer<modelled>(&me, donate, [](lost_state) {})) return false;
    come_in();
    run_one();
    go_out();
    grt::protocol::leave<modelled>(&me);
    return true;
  }
  // On g0, after the turn came: it looks, and switches to a goroutine.
  void first(M& me) {
    deny<modelled>(&me);
    come_in();
    P* mine = me.p;
    check(mine == &p, "a turn without a P");
    run_one();
    go_out();
    grt::protocol::leave<modelled>(&me);
  }
  // Its goroutine has left it.
  void line_up(M& me) {
    modelled::guard hold(at_rest_.lock);
    is_back<modelled>(&me);
    me.computes = false;
    at_rest_.put(&me);
  }
  // Returns at work, on the same thread or on one that was started in its place.
  void rest(M& me) {
    if (at_rest_.await_turn_for(&me, 1, [&me] { words_go<modelled>(&me); })) return first(me);
    // What follows is a new thread's, with words of its own; here they are the same.
    while (modelled::load(me.thread, std::memory_order_acquire) == 0) modelled::futex_wait(me.thread, 0);
    modelled::store(me.words, &me.own, std::memory_order_release);
    await_turn<modelled>(&me);
    first(me);
  }
  M* any_resting() {
    bool has_thread;
    M* to = at_rest_.take(has_thread);
    if (to && !has_thread) {
      modelled::store(to->thread, 1u, std::memory_order_release); // pthread_create
      modelled::futex_wake(to->thread);
    }
    return to;
  }
  bool hand_off() {
    M* from = holder_of<modelled>(&p);
    M* to = any_resting();
    if (!to) return false;
    lost_state was = modelled::load(from->lost, memory_order_relaxed);
    bool mine = (was == lost_state::free || was == lost_state::announced) &&
                take_for<modelled>(
                    &p, from, was, to, thieves, [] { return true; }, [&] { from->computes = true; },
                    [left = 1]() mutable { return left-- > 0; });
    if (mine) {
      give_turn<modelled>(to);
    } else {
      modelled::guard hold(at_rest_.lock);
      at_rest_.put(to);
    }
    return mine;
  }
  // blocking(): true: it gave its P away.
  bool hand_itself(M& me) {
    M* to = any_resting();
    if (!to) return false;
    check(grt::protocol::enter<modelled>(&me) || answer<modelled>(
                                                     &me, [] {}, [](lost_state) {}),
          "nobody takes it");
    come_in();
    check(step_aside<modelled>(&me, lost_state::gone), "nobody stops it");
    go_out();
    give<modelled>(&p, to);
    grt::protocol::leave<modelled>(&me);
    give_turn<modelled>(to);
    return true;
  }

  std::string at_rest() override {
    for (M& one : m)
      if (value(one.own.barred) && value(one.lost) == lost_state::free) return "barred for good";
    M* holder = value(p.m);
    if (sleeps(static_cast<unsigned>(holder - m))) return "the P is a sleeper's";
    for (M& one : m)
      if (&one != holder && value(one.turn)) return "a turn that nobody takes";
    unsigned listed = 0, asleep = 0;
    for (M* list : {static_cast<M*>(value(at_rest_.resting)), static_cast<M*>(value(at_rest_.threadless))})
      for (M* one = list; one; one = value(one->rest_next)) listed |= 1u << (one - m);
    for (unsigned i = 0; i < 2; i++) asleep |= static_cast<unsigned>(sleeps(i)) << i;
    return asleep == (asleep & listed) ? "" : "one sleeps in no list";
  }
};

// Sysmon takes the P away; the second time perhaps from whom it gave it to, for the first one or for a new thread.
struct taken : handed {
  unsigned times;
  taken(memory of, site without, unsigned n = 1) : handed(of, without), times(n) { begin(2); }
  void program(unsigned t) override {
    if (t == 2) {
      for (unsigned i = 0; i < times; i++) {
        from_here(i);
        hand_off();
      }
      return;
    }
    M& me = m[t];
    if (t == 0) rest(me);
    from_here(0);
    if (work(me)) return;
    bool told = me.computes;
    check(told, "it does not know that it is adrift");
    line_up(me);
    if (t == 1) rest(me);
  }
};
// Its goroutine has to do with a lock, and then parks: it needs its P for the first, and goes on to the second with it.
struct holds_first : handed {
  holds_first(memory of, site without) : handed(of, without) { begin(1); }
  /// false: the P is gone.
  bool get_hold(M& me) {
    while (!hold<modelled>(&me.own)) {
      let_loose<modelled>(&me.own);
      if (!await_hold<modelled>(&me.own)) return false;
    }
    return true;
  }
  void program(unsigned t) override {
    if (t == 2) return void(hand_off());
    M& me = m[t];
    if (t == 0) {
      await_turn<modelled>(&me);
      return first(me);
    }
    if (get_hold(me)) {
      come_in(); // nobody else has the P
      go_out();
      check(enter<modelled>(&me) || answer<modelled>(
                                        &me, [] {}, [](lost_state) {}),
            "it held, and its P is gone");
      let_loose<modelled>(&me.own);
      come_in();
      run_one();
      go_out();
      grt::protocol::leave<modelled>(&me);
      if (get_hold(me)) {
        come_in();
        go_out();
        return let_loose<modelled>(&me.own);
      }
    }
    bool told = me.computes;
    check(told, "it does not know that it is adrift");
    line_up(me);
  }
  std::string at_rest() override { return sleeps(0) && value(p.m) == &m[0] ? "the P is a sleeper's" : ""; }
};
// A hold begins within a bracket and outlives it, as in blocking().
struct holds_across : holds_first {
  using holds_first::holds_first;
  void program(unsigned t) override {
    if (t != 1) return holds_first::program(t);
    M& me = m[t];
    if (!grt::protocol::enter<modelled>(&me) && !answer<modelled>(
                                                    &me, [] {}, [](lost_state) {}))
      return;
    come_in(); // nobody else has the P until the count is 0
    (void)hold<modelled>(&me.own);
    grt::protocol::leave<modelled>(&me);
    go_out();
    let_loose<modelled>(&me.own);
  }
};
// The thread ends, and what its words stand in is somebody else's memory from then on.
struct thread_ends : handed {
  thread_ends(memory of, site without) : handed(of, without, 2) { begin(1); }
  void program(unsigned t) override {
    M& me = m[1];
    if (t == 0) {
      lost_state was = lost_state::free;
      if (!seize<modelled>(&me, was, thieves)) return;
      bool mine = bar<modelled>(&me, [] { return false; });
      if (mine) set_bar<modelled>(&me, grt::protocol::open);
      return let_go<modelled>(&me, mine);
    }
    words_go<modelled>(&me);
    modelled::store(me.own.barred, 7u, memory_order_relaxed);
  }
  std::string at_rest() override { return value(m[1].own.barred) == 7 ? "" : "written to when the thread was gone"; }
};
// Two threads of low priority have nothing left and end; whoever starts new threads takes both.
struct low_ends : world {
  resters<modelled, M> at_rest_;
  M m[2];
  low_ends(memory of, site without) : world(of, without) {
    n_threads_ = 3;
    name(at_rest_.threadless, "threadless");
  }
  void program(unsigned t) override {
    if (t < 2) {
      m[t].computes = true;
      return at_rest_.put_threadless(&m[t]);
    }
    for (int i = 0; i < 2; i++) take();
  }
  void take() {
    bool has_thread = false;
    M* one = at_rest_.take(has_thread);
    if (!one) return;
    check(!has_thread, "its thread has ended");
    bool left = one->computes;
    check(left, "what it has left is not seen, or it is taken twice");
    one->computes = false;
  }
  std::string at_rest() override {
    unsigned listed = 0, taken = 0;
    for (M* one = value(at_rest_.threadless); one; one = value(one->rest_next)) listed |= 1u << (one - m);
    for (unsigned i = 0; i < 2; i++) taken |= static_cast<unsigned>(!value(m[i].computes)) << i;
    return (listed ^ taken) == 3 ? "" : "one is lost, or listed and taken";
  }
};
struct taken_twice : taken {
  taken_twice(memory of, site without) : taken(of, without, 2) {}
};
// The owner announces that it will be away.
struct announced : handed {
  announced(memory of, site without) : handed(of, without) { begin(2); }
  void program(unsigned t) override {
    M& me = m[t];
    if (t == 2) return void(hand_off());
    if (t == 0) {
      await_turn<modelled>(&me);
      return first(me);
    }
    if (!grt::protocol::enter<modelled>(&me) && !answer<modelled>(
                                                    &me, [] {}, [](lost_state) {}))
      return;
    come_in();
    check(step_aside<modelled>(&me, lost_state::announced), "nobody stops it");
    run_one();
    go_out();
    grt::protocol::leave<modelled>(&me);
    if (step_back<modelled>(&me) == lost_state::announced && work(me)) return;
    bool told = me.computes;
    check(told, "it does not know that it is adrift");
    line_up(me);
  }
  std::string at_rest() override { return sleeps(0) && value(p.m) == &m[0] ? "the P is a sleeper's" : ""; }
};
// The owner gives it away, to a new M, and rests; a thief comes by.
struct given : handed {
  P of_thief;
  given(memory of, site without) : handed(of, without) { begin(1); }
  void program(unsigned t) override {
    if (t == 2) {
      M* victim = holder_of<modelled>(&p);
      if (!ask<modelled>(victim, &of_thief, thieves)) return;
      if (!take<modelled>(victim, [] { return false; })) return;
      bool mine = shut_out<modelled>(victim, &p);
      if (mine) {
        come_in();
        run_one();
        go_out();
      }
      return let_go<modelled>(victim, mine);
    }
    M& me = m[t];
    if (t == 0) {
      await_turn<modelled>(&me);
      return first(me);
    }
    m[0].thief = nullptr; // m_make
    if (!hand_itself(me)) return check(false, "there is one at rest");
    if (step_back<modelled>(&me) == lost_state::gone) line_up(me);
  }
  std::string at_rest() override { return note(1) == 1 ? "" : "a goroutine never runs"; }
};
// A thief has seen M 0 with p long ago; now that rests, and is given another P.
struct late_thief : handed {
  P other, of_thief;
  bool looks; // at whose P it is
  late_thief(memory of, site without, bool as_it_should = true) : handed(of, without), looks(as_it_should) {
    begins_as(m[0].p, &p);
    begins_as(m[0].in, 0u);
    begins_as(m[0].lost, lost_state::gone);
    begins_as(p.n, 1u);
  }
  void program(unsigned t) override {
    M& me = m[0];
    if (t == 0) {
      P* last = me.thief; // it has donated once
      check(!last, "");
      line_up(me);
      await_turn<modelled>(&me);
      deny<modelled>(&me);
      grt::protocol::leave<modelled>(&me);
    } else if (t == 1) {
      if (!ask<modelled>(&me, &of_thief, thieves)) return;
      if (!take<modelled>(&me, [] { return false; })) return;
      bool mine = looks ? shut_out<modelled>(&me, &p) : shut_out<modelled>(&me);
      check(!mine, "it is inside a P that is another's");
      let_go<modelled>(&me, mine);
    } else {
      bool has_thread;
      M* to = at_rest_.take(has_thread);
      if (!to) return;
      give<modelled>(&other, to);
      give_turn<modelled>(to);
    }
  }
  std::string at_rest() override { return ""; }
};
struct careless_thief : late_thief {
  careless_thief(memory of, site without) : late_thief(of, without, false) {}
};

// M 0 is given a P that is one too many, while that changes.
struct retires : world {
  struct P;
  struct M {
    modelled::atomic<std::uint32_t> turn{0u}, asleep{std::uint32_t{awake}};
    modelled::plain<P*> p{nullptr};
  };
  struct P {
    modelled::atomic<M*> m{nullptr};
  };
  M m[2];
  P p;
  modelled::atomic<unsigned> procs{1u};
  retires(memory of, site without) : world(of, without) {
    n_threads_ = 3;
    begins_as(p.m, &m[1]);
    name(p.m, "P.m");
    name(procs, "procs");
    name(m[0].asleep, "asleep");
    name(m[0].turn, "turn");
  }
  void program(unsigned t) override {
    M& me = m[0];
    if (t == 0) {
      await_turn<modelled>(&me);
      for (;;) {
        from_here(0);
        if (1 < modelled::load(procs, memory_order_relaxed)) return;
        if (!may_retire<modelled>(&me, 1, procs)) return;
        modelled::futex_wait(me.asleep, deep);
      }
    } else if (t == 1) {
      give<modelled>(&p, &me);
      give_turn<modelled>(&me);
    } else {
      set_limit<modelled>(procs, 2);
      wake_retired<modelled>(&p);
    }
  }
  std::string at_rest() override { return sleeps(0) ? "its P is wanted, and it sleeps for good" : ""; }
};

// A keeper that its goroutine has left, and two that want to lend it a P, one after the other.
struct lent : world {
  struct M {
    modelled::atomic<std::uint32_t> vacant{std::uint32_t{claimed}};
    modelled::plain<unsigned> p{0u};
  };
  M keeper;
  lent(memory of, site without) : world(of, without) {
    n_threads_ = 3;
    name(keeper.vacant, "vacant");
    name(keeper.p, "p");
  }
  void turn_of(unsigned who) {
    claim(0);
    keeper.p = who;
    unsigned mine = keeper.p;
    check(mine == who, "a second lender wrote");
    drop(0);
    vacate_keeper<modelled>(&keeper);
  }
  void program(unsigned t) override {
    if (t) claim_keeper<modelled>(&keeper);
    turn_of(t);
  }
  std::string at_rest() override {
    for (unsigned t = 1; t < 3; t++)
      if (sleeps(t)) return "a lender sleeps for good";
    return value(keeper.vacant) == vacant ? "" : "nobody is on it, and it is not vacant";
  }
};

TEST(Handoff, Lent_Holds) { expect_holds<lent>("lent", 50, true); }
TEST(Handoff, HoldsFirst_Holds) { expect_holds<holds_first>("holds first", 1000, true); }
TEST(Handoff, HoldsAcross_Holds) { expect_holds<holds_across>("holds across", 100, true); }
TEST(Handoff, LowEnds_Holds) { expect_holds<low_ends>("low ends", 100, true); }
TEST(Handoff, ThreadEnds_Holds) { expect_holds<thread_ends>("thread ends", 50, true); }
TEST(Handoff, Taken_Holds) { expect_holds<taken>("taken", 10000, true); }
TEST(Handoff, TakenTwice_Holds) {
  result r = taken_twice(memory::tso, site::none).explore();
  EXPECT_EQ(r.failure, "") << text(r);
}
TEST(Handoff, Announced_Holds) { expect_holds<announced>("announced", 1000, true); }
TEST(Handoff, Retires_Holds) { expect_holds<retires>("retires", 100, true); }
TEST(Handoff, Given_Holds) { expect_holds<given>("given", 1000, true); }
TEST(Handoff, LateThief_Holds) { expect_holds<late_thief>("late thief", 1000, true); }
TEST(Handoff, AThiefThatDoesNotLookWhoseItIs_Fails) {
  for (memory of : {memory::tso, memory::weak}) EXPECT_NE(careless_thief(of, site::none).explore().failure, "");
}

struct HandoffWithout : testing::TestWithParam<fault> {};
TEST_P(HandoffWithout, Fails) {
  expect_fails<low_ends, lent, retires, thread_ends, late_thief, holds_first, announced, given>(GetParam());
}
INSTANTIATE_TEST_SUITE_P(
    One, HandoffWithout,
    testing::ValuesIn(faults({site::retire_fence, site::procs_fence, site::hold_on_fence, site::words_fence},
                             {site::give_turn, site::await_turn, site::claim_keeper, site::vacate_keeper,
                              site::set_holder, site::holder_of, site::is_back, site::retire_fence, site::procs_fence,
                              site::hold_on_fence, site::bar_words, site::words_fence, site::hold_gone, site::set_bar,
                              site::take_threadless, site::put_threadless},
                             {site::step_back, site::words_lost})),
    fault_name);
} // namespace
