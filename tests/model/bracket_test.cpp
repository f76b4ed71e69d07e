// tests/model/bracket_test.cpp - ask, donate, take: no item is lost or run twice, and nobody is inside a P with
// another.
#include <gtest/gtest.h>

#include <utility>

#include "sched/protocol/bracket.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;

struct M;
struct P {
  modelled::plain<unsigned> n;
  modelled::plain<unsigned> items[2];
  unsigned id;
  P(unsigned i, std::vector<unsigned> have) : n(static_cast<unsigned>(have.size())), items{0u, 0u}, id(i) {
    current->name(n, "P" + std::to_string(i) + ".n");
    for (unsigned k = 0; k < 2; k++) {
      current->name(items[k], "P" + std::to_string(i) + "[" + std::to_string(k) + "]");
      if (k < have.size()) current->begins_as(items[k], have[k]);
    }
  }
  void push(unsigned item) {
    unsigned at = n;
    check(at < 2, "a ring overflows");
    items[at] = item;
    n = at + 1;
  }
  unsigned pop_front() {
    unsigned item = items[0], rest = n - 1;
    if (rest) items[0] = items[1];
    n = rest;
    return item;
  }
};
// More than one party is told by notes 4 and 5; notes 0 to 3 count how often an item was run.
void come_in(P& p) { claim(4 + p.id); }
void go_out(P& p) { drop(4 + p.id); }

void move(P& from, P& to, unsigned many) {
  for (unsigned i = 0; i < many; i++) to.push(from.pop_front());
}
void run_one(P& p) {
  if (p.n) ran(p.pop_front());
}

struct M {
  modelled::atomic<std::uint32_t> in;
  modelled::atomic<lost_state> lost{lost_state::free};
  modelled::plain<P*> thief{nullptr};
  P* p;
  M(P* of, unsigned inside) : in(inside), p(of) {
    std::string name = "M" + std::to_string(of->id) + ".";
    current->name(in, name + "in");
    current->name(lost, name + "lost");
    current->name(thief, name + "thief");
  }
};

// false: its P is gone, and it is outside.
[[nodiscard]] bool try_enter(M& m) {
  if (!grt::protocol::enter<modelled>(&m) && !answer<modelled>(
                                                 &m,
                                                 [&] {
                                                   P* to = m.thief;
                                                   come_in(*to);
                                                   come_in(*m.p);
                                                   move(*m.p, *to, m.p->n / 2);
                                                   go_out(*m.p);
                                                   go_out(*to);
                                                 },
                                                 [](lost_state) {}))
    return false;
  come_in(*m.p);
  return true;
}
void enter(M& m) { check(try_enter(m), "nobody has taken it"); }
void leave(M& m) {
  go_out(*m.p);
  grt::protocol::leave<modelled>(&m);
}

// After seize() or take(): m has `lost` of its victim at take.
void plunder(M& m, M& victim, lost_state back) {
  bool mine = shut_out<modelled>(&victim);
  if (mine) {
    come_in(*victim.p);
    move(*victim.p, *m.p, (victim.p->n + 1) / 2);
    go_out(*victim.p);
  }
  let_go<modelled>(&victim, mine, back);
}

// m is inside its own bracket, and stays there.
void steal(M& m, M& victim, modelled::lock& thieves) {
  bool in = true;
  auto back = [&] {
    if (!std::exchange(in, true)) come_in(*m.p);
  };
  bool first = true;
  unsigned had = m.p->n;
  bool got = rob<modelled>(
      &victim, m.p, thieves, [] { return false; },
      [&] {
        back();
        plunder(m, victim, lost_state::free);
      },
      [&] { // while it has asked, others fill its rings
        back();
        unsigned n = m.p->n;
        if (std::exchange(first, false)) go_out(*m.p), in = false;
        return n;
      });
  back();
  check(got || m.p->n <= had, "it has got work and does not know");
}

struct bracket : world {
  P p0{0, {0, 1}}, p1{1, {}}, p2{2, {}};
  M owner{&p0, 0}, m1{&p1, 1}, m2{&p2, 1};
  modelled::lock thieves;
  using world::world;
  void run_both();
  void steal_as_it_stands(M& m, P& p);
  std::string at_rest() override {
    unsigned runs[2] = {note(0), note(1)};
    for (P* p : {&p0, &p1, &p2})
      for (unsigned i = 0; i < value(p->n); i++) runs[value(p->items[i])]++;
    for (unsigned i = 0; i < 2; i++)
      if (runs[i] != 1) return "item " + std::to_string(i) + (runs[i] ? " is there twice" : " is lost");
    for (M* m : {&owner, &m1, &m2})
      if (lost_state l = value(m->lost); l == lost_state::ask || l == lost_state::grant || l == lost_state::take)
        return "somebody is still waited for";
    return "";
  }
};

void bracket::run_both() {
  for (int i = 0; i < 2; i++) {
    enter(owner);
    run_one(p0);
    leave(owner);
  }
}
// Who cannot be asked is taken from at once (sched/core/steal.cpp).
void bracket::steal_as_it_stands(M& m, P& p) {
  come_in(p);
  lost_state l = modelled::load(owner.lost, std::memory_order_relaxed);
  if (l == lost_state::announced || l == lost_state::poke) {
    if (seize<modelled>(&owner, l, thieves)) plunder(m, owner, l);
  } else {
    steal(m, owner, thieves);
  }
  go_out(p);
}

// The owner works through its queue while a thief comes once.
struct one_thief : bracket {
  using bracket::bracket;
  void program(unsigned t) override {
    if (t == 0) {
      run_both();
    } else {
      come_in(p1);
      steal(m1, owner, thieves);
      run_one(p1);
      go_out(p1);
    }
  }
};
// The same with two, each of which may find the other's traces.
struct two_thieves : bracket {
  two_thieves(memory m, site without) : bracket(m, without) { n_threads_ = 3; }
  void program(unsigned t) override {
    if (t == 0) {
      enter(owner);
      run_one(p0);
      leave(owner);
    } else {
      P& p = t == 1 ? p1 : p2;
      come_in(p);
      steal(t == 1 ? m1 : m2, owner, thieves);
      go_out(p);
    }
  }
};
// An owner that searches, always inside, denies.
struct searching : bracket {
  using bracket::bracket;
  void program(unsigned t) override {
    if (t == 0) {
      enter(owner);
      run_one(p0);
      deny<modelled>(&owner);
      run_one(p0);
      leave(owner);
    } else {
      come_in(p1);
      steal(m1, owner, thieves);
      go_out(p1);
      deny<modelled>(&m1);
    }
  }
};

// Two in a row, the first denied.
struct denied : bracket {
  denied(memory m, site without) : bracket(m, without) { n_threads_ = 3; }
  void program(unsigned t) override {
    if (t == 0) {
      enter(owner);
      deny<modelled>(&owner);
      run_one(p0);
      leave(owner);
    } else {
      P& p = t == 1 ? p1 : p2;
      come_in(p);
      steal(t == 1 ? m1 : m2, owner, thieves);
      go_out(p);
    }
  }
};

// blocking(): the owner announces that it will be away, and comes back.
struct announcing : bracket {
  using bracket::bracket;
  void program(unsigned t) override {
    if (t == 0) {
      enter(owner);
      run_one(p0);
      for (lost_state l; l = lost_state::free, !modelled::cas(owner.lost, l, lost_state::announced, acq_rel);) {
        deny<modelled>(&owner);
        while (modelled::load(owner.lost, std::memory_order_relaxed) == lost_state::take) modelled::relax();
      }
      leave(owner);
      enter(owner);
      run_one(p0);
      leave(owner);
    } else {
      steal_as_it_stands(m1, p1);
    }
  }
  static constexpr auto acq_rel = std::memory_order_acq_rel;
};
// sysmon pokes; the owner may not have come by when a thief does.
struct poked : bracket {
  poked(memory m, site without) : bracket(m, without) { n_threads_ = 3; }
  void program(unsigned t) override {
    if (t == 0) {
      run_both();
    } else if (t == 1) {
      lost_state l = lost_state::free;
      modelled::guard hold(thieves);
      modelled::cas(owner.lost, l, lost_state::poke, std::memory_order_acq_rel);
    } else {
      steal_as_it_stands(m2, p2);
    }
  }
};
// sysmon pokes, then gives the P to another M, which runs what is left.
struct handed : bracket {
  using bracket::bracket;
  void program(unsigned t) override {
    if (t == 0) {
      for (int i = 0; i < 2 && try_enter(owner); i++) {
        run_one(p0);
        leave(owner);
      }
    } else {
      lost_state l = lost_state::free;
      modelled::cas(owner.lost, l, lost_state::poke, std::memory_order_acq_rel);
      l = modelled::load(owner.lost, std::memory_order_relaxed);
      if (!seize<modelled>(&owner, l, thieves)) return;
      bool mine = shut_out<modelled>(&owner);
      let_go<modelled>(&owner, mine, mine ? lost_state::gone : l);
      if (!mine) return;
      come_in(p0);
      run_one(p0);
      go_out(p0);
    }
  }
};

TEST(Bracket, Announcing_Holds) { expect_holds<announcing>("announcing", 1000, true); }
TEST(Bracket, Poked_Holds) { expect_holds<poked>("poked", 1000, true); }
TEST(Bracket, Handed_Holds) { expect_holds<handed>("handed", 500, true); }
TEST(Bracket, OneThief_Holds) { expect_holds<one_thief>("one thief", 1000, true); }
TEST(Bracket, TwoThieves_Holds) { expect_holds<two_thieves>("two thieves", 100000, true); }
TEST(Bracket, Denied_Holds) { expect_holds<denied>("denied", 100000, true); }
TEST(Bracket, Searching_Holds) { expect_holds<searching>("searching", 1000, true); }

struct BracketWithout : testing::TestWithParam<fault> {};
TEST_P(BracketWithout, Fails) { expect_fails<one_thief, searching, announcing, handed, two_thieves>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(One, BracketWithout,
                         testing::ValuesIn(faults({site::enter_fence, site::answer_fence, site::take_fence},
                                                  {site::enter_fence, site::enter_order, site::leave_in,
                                                   site::answer_fence, site::answer_grant, site::answer_done,
                                                   site::answer_out, site::ask_look, site::ask, site::take,
                                                   site::take_fence, site::take_in, site::take_publish,
                                                   site::grant_wait, site::spin_lock, site::spin_unlock},
                                                  {site::enter_lost, site::answer_lost, site::take_done})),
                         fault_name);
} // namespace
