// tests/model/faults.hpp - runs worlds as they are, which must hold, and with one order or fence less, which must not.
#pragma once
#include <gtest/gtest.h>
#include <set>

#include "tests/model/machine.hpp"
#include "tests/support/slow.hpp"

namespace model {

inline const char* name_of(site s) {
  static const char* const names[] = {
      "none",           "enter_fence",  "enter_lost",    "enter_order",   "leave_in",     "answer_fence",
      "answer_lost",    "answer_grant", "answer_done",   "answer_out",    "ask_look",     "ask",
      "take",           "take_fence",   "take_in",       "take_publish",  "take_done",    "grant_wait",
      "notify_fence",   "sleep_fence",  "sleep_look",    "wake",          "timer_fence",  "leader_fence",
      "arm_fence",      "far_side",     "foreign_wait",  "foreign_ready", "park_reason",  "ready_fence",
      "hold_fence",     "held_reason",  "held_leave",    "held_let_go",   "give_turn",    "take_threadless",
      "put_threadless", "await_turn",   "claim_keeper",  "vacate_keeper", "set_holder",   "holder_of",
      "step_back",      "is_back",      "hold_on_fence", "hold_gone",     "set_bar",      "bar_words",
      "words_fence",    "words_lost",   "come_home",     "lowered",       "drift_begins", "halt_fence",
      "rejoin",         "retire_fence", "procs_fence",   "mutex_lock",    "mutex_unlock", "look_saved",
      "look_begin",     "look_fence",   "spin_lock",     "spin_unlock"};
  static_assert(std::size(names) == static_cast<std::size_t>(site::count));
  return names[static_cast<int>(s)];
}
inline const char* name_of(memory m) { return m == memory::tso ? "tso" : m == memory::weak ? "weak" : "cpp"; }

struct fault {
  site without;
  memory in;
  friend std::ostream& operator<<(std::ostream& to, const fault& f) {
    return to << name_of(f.without) << "_" << name_of(f.in);
  }
};
inline std::string fault_name(const testing::TestParamInfo<fault>& info) { return testing::PrintToString(info.param); }

/// Sites that some suite has a test for.
inline std::set<site>& tested() {
  static std::set<site> all;
  return all;
}
inline std::vector<fault> faults(std::initializer_list<site> tso, std::initializer_list<site> weak,
                                 std::initializer_list<site> cpp = {}) {
  std::vector<fault> all;
  for (site s : tso) all.push_back({s, memory::tso});
  for (site s : weak) all.push_back({s, memory::weak});
  for (site s : cpp) all.push_back({s, memory::cpp});
  for (auto& f : all) tested().insert(f.without);
  return all;
}

inline std::string text(const result& r) {
  std::string s;
  for (auto& line : r.trace) s += "  " + line + "\n";
  return s;
}

/// cpp: also as what the compiler may do, where that is not what a weak machine may. at_least: fewer states than this,
/// and it has not looked.
template <class World> void expect_holds(const char* name, std::size_t at_least, bool cpp = false) {
  for (memory m : {memory::tso, memory::weak, memory::cpp}) {
    if (m == memory::cpp && !cpp) continue;
    bool whole = scaled(100) == 100 || at_least < 100'000;
    std::size_t most = whole ? 2'000'000 : 50'000;
    result r = World(m, site::none).explore(most);
    std::printf("%s, %s: %zu states, %zu steps, %zu ends\n", name, name_of(m), r.states, r.steps, r.ends);
    EXPECT_EQ(r.failure, "") << text(r);
    EXPECT_GE(r.states, r.failure.empty() && whole ? at_least : 0) << name << ", " << name_of(m);
    if (whole) {
      EXPECT_LT(r.states, most) << name << ", " << name_of(m) << ": too large to be looked at whole";
    }
  }
}

/// One of the worlds must fail, the smallest come first; tells the shortest way to it.
template <class... Worlds> void expect_fails(const fault& f) {
  result best;
  auto run = [&](result r) {
    if (!r.failure.empty()) best = std::move(r);
  };
  ((best.failure.empty() ? run(Worlds(f.in, f.without).explore()) : void()), ...);
  EXPECT_NE(best.failure, "") << "nothing goes wrong without " << name_of(f.without);
  std::printf("without %s, %s:\n%s", name_of(f.without), name_of(f.in), text(best).c_str());
}

} // namespace model
