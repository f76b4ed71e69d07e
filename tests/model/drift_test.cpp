// tests/model/drift_test.cpp - a thread knows what priority it has once its goroutine is on its way to a processor.
#include "sched/protocol/drift.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;

// Thread 0 loses its P, comes home, and does so again; thread 1 is sysmon.
struct drifts : world {
  struct M {
    modelled::atomic<std::uint32_t> drift{0u};
    modelled::atomic<unsigned> since{0u};
    modelled::plain<unsigned> priority{0u};
  };
  M m;
  drifts(memory of, site without) : world(of, without) {
    n_threads_ = 2;
    name(m.drift, "drift");
    name(m.since, "since");
    name(m.priority, "priority");
  }
  void program(unsigned t) override {
    if (t == 0) {
      for (unsigned turn = 1; turn <= 2; turn++) {
        modelled::store(m.since, turn, std::memory_order_relaxed);
        drift_begins<modelled>(&m, turn == 2);
        bool low = come_home<modelled>(&m);
        unsigned priority = m.priority;
        check(low == (priority == 1), "it does not know its priority");
        m.priority = 0u;
      }
      return;
    }
    for (unsigned i = 0; i < 2; i++) {
      std::uint32_t w = modelled::load(m.drift, std::memory_order_acquire);
      if ((w & drift_states) != adrift) continue;
      if (w & drift_announced) continue;
      check(modelled::load(m.since, std::memory_order_relaxed) != 0, "it does not know since when");
      (void)lower<modelled>(&m, w, [this] { m.priority = 1u; });
    }
  }
  std::string at_rest() override {
    std::uint32_t w = value(m.drift);
    return w / drift_one == 2 && (w & drift_states) == home ? "" : "it is not home";
  }
};

TEST(Drift, Holds) { expect_holds<drifts>("drifts", 50, true); }

struct DriftWithout : testing::TestWithParam<fault> {};
TEST_P(DriftWithout, Fails) { expect_fails<drifts>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(One, DriftWithout,
                         testing::ValuesIn(faults({}, {site::come_home, site::lowered, site::drift_begins})),
                         fault_name);
} // namespace
