// tests/support/turn.hpp - how long a goroutine waits that gives way.
#pragma once
#include <cstdint>

#include <grt/debug.hpp>
#include <grt/go.hpp>

struct turn {
  std::uint64_t waited; // by `count`
  bool at_home;         // false: its processor may have gone to others while it ran, and no bound holds for these
};
/// `count` grows by what others do.
template <class F> turn give_way(F count) {
  auto m = grt::debug::read_metrics();
  std::uint64_t before = count();
  grt::yield();
  std::uint64_t waited = count() - before;
  return {waited, !m.adrift && grt::debug::read_metrics().handoffs == m.handoffs};
}
inline turn give_way() {
  return give_way([] { return grt::debug::read_metrics().switches; });
}
