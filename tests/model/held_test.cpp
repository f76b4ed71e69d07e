// tests/model/held_test.cpp - the scavenger's hold: no page is dropped that a goroutine stands on, and none is
// forgotten that was picked meanwhile.
#include "sched/protocol/held.hpp"
#include "sched/protocol/sleep.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;

constexpr unsigned not_saved = 1, shallow = 2, deep_down = 3; // frames; below `shallow` is also what `deep_down` keeps
constexpr unsigned none = 0, waits = 1;

struct G {
  modelled::atomic<unsigned> sp{shallow}, reason{none};
  modelled::atomic<std::uint8_t> held{std::uint8_t{not_held}};
  modelled::plain<bool> link{false};
};

// A goroutine runs, parks, is woken, runs deeper and parks there; the scavenger comes by at any time.
// Notes: 0 and 1 are the stack below deep_down and from there to `shallow`, 2 counts its second run.
struct held : world {
  G g;
  modelled::lock queue, global;
  modelled::plain<bool> event{false}, queued{false};
  modelled::atomic<unsigned> injected{0u};
  bool saves_early = false; // sp is stored while signal handlers may still run below it
  held(memory m, site without, unsigned threads = 3) : world(m, without) {
    n_threads_ = threads;
    name(g.sp, "sp");
    name(g.reason, "reason");
    name(g.held, "held");
    name(g.link, "link");
    name(queue, "queue");
    name(global, "global");
    name(event, "event");
    name(queued, "queued");
    name(injected, "injected");
  }

  // Its first run has ended, as it says so.
  void park_shallow() {
    claim(0);
    claim(1);
    queue.take();
    if (event) {
      queue.unlock();
      return ran(2);
    }
    queued = true;
    is_parking<modelled>(&g, not_saved, waits);
    if (saves_early) modelled::store(g.sp, shallow, std::memory_order_relaxed);
    drop(0); // the stack pointer leaves: from here on no handler of a signal runs there
    drop(1);
    if (!saves_early) modelled::store(g.sp, shallow, std::memory_order_relaxed);
    far_side<modelled>(queue);
  }
  /// true: it is the caller's to make runnable.
  bool fire() {
    modelled::guard hold(queue);
    event = true;
    return queued;
  }
  void run_deeper() {
    claim(0);
    claim(1);
    ran(2);
    is_parking<modelled>(&g, not_saved, waits);
    drop(0);
    modelled::store(g.sp, deep_down, std::memory_order_relaxed);
  }
  // Popped: no other picker has it.
  void pick() {
    bool linked = g.link;
    check(!linked, "it stands in two queues");
    if (modelled::load(g.held, std::memory_order_relaxed) != not_held && leave_to_holder<modelled>(&g)) return;
    run_deeper();
  }
  void scavenge() {
    G* one = &g;
    hold<modelled>(&one, 1);
    unsigned sp = saved_sp<modelled>(&g, not_saved, none);
    if (sp != not_saved) {
      claim(0);
      if (sp == shallow) claim(1);
      modelled::load(injected, std::memory_order_relaxed); // it takes a while
      drop(0);
      if (sp == shallow) drop(1);
    }
    if (!let_go_of<modelled>(&g)) return;
    g.link = true;
    ran(2);
  }
  std::string at_rest() override { return note(2) == 1 ? "" : "the goroutine never runs again"; }
};

// Who wakes it also picks it, from a ring of its own.
struct picked_here : held {
  using held::held;
  void program(unsigned t) override {
    if (t == 0) return park_shallow();
    if (t == 2) return scavenge(), scavenge();
    if (!fire()) return;
    is_runnable<modelled>(&g, none);
    pick();
  }
};
// Who ran it picks it, out of a queue of all.
struct picked_there : held {
  using held::held;
  void program(unsigned t) override {
    if (t == 2) return scavenge();
    if (t == 0) {
      park_shallow();
      while (modelled::load(injected, std::memory_order_relaxed) == 0) modelled::relax();
      global.take();
      bool has = modelled::load(injected, std::memory_order_relaxed) == 1;
      global.unlock();
      if (has) pick();
      return;
    }
    bool mine = fire();
    if (mine) is_runnable<modelled>(&g, none);
    modelled::guard hold(global);
    modelled::store(injected, mine ? 1u : 2u, std::memory_order_relaxed);
  }
};

// The goroutine is gone, its frame still written down; a foreign thread waits with its slot.
struct reused : held {
  reused(memory m, site without) : held(m, without, 2) {}
  void program(unsigned t) override {
    if (t) return scavenge();
    claim(0); // the stack is another's
    ran(2);
    is_parking<modelled>(&g, not_saved, waits);
  }
};

struct saved_early : picked_here {
  saved_early(memory m, site without) : picked_here(m, without) { saves_early = true; }
};

TEST(Held, Reused_Holds) { expect_holds<reused>("reused", 10, true); }
TEST(Held, PickedHere_Holds) { expect_holds<picked_here>("picked here", 1000, true); }
TEST(Held, PickedThere_Holds) { expect_holds<picked_there>("picked there", 1000, true); }

TEST(Held, SavedBeforeTheStackIsLeft_Fails) {
  for (memory m : {memory::tso, memory::weak}) EXPECT_NE(saved_early(m, site::none).explore().failure, "");
}

struct HeldWithout : testing::TestWithParam<fault> {};
TEST_P(HeldWithout, Fails) { expect_fails<picked_here, picked_there>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(One, HeldWithout,
                         testing::ValuesIn(faults({site::hold_fence, site::ready_fence},
                                                  {site::hold_fence, site::ready_fence, site::park_reason,
                                                   site::held_reason, site::held_leave, site::held_let_go})),
                         fault_name);
} // namespace
