// Windows by themselves, in child processes: how a process guards is decided once.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "stack/arena.hpp"
#include "stack/reclaim.hpp"
#include "stack/windows.hpp"
#include "tests/support/slow.hpp"

namespace {
using namespace grt::stack;
using testing::ExitedWithCode;

#define REQUIRE(x)                                                                                                     \
  if (!(x)) (dprintf(2, "line %d: %s\n", __LINE__, #x), std::_Exit(1))

/// As the runtime starts it: GRT_GUARD counts.
void start_here() {
  config c;
  if (const char* s = std::getenv("GRT_GUARD")) {
    c.guard = guard_named(s);
    REQUIRE(c.guard >= 0 && can_guard(static_cast<guard_kind>(c.guard)));
  }
  start(c);
}

bool writable(char* p) {
  int fds[2];
  REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
  bool ok = read(fds[0], p, 0) == 0 && write(fds[1], "x", 1) == 1 && read(fds[0], p, 1) == 1;
  close(fds[0]);
  close(fds[1]);
  return ok;
}

std::vector<char*> some(std::size_t n) {
  static cache c;
  std::vector<char*> tops;
  REQUIRE(take_credits(n));
  for (std::size_t i = 0; i < n; i++) tops.push_back(get(c));
  return tops;
}

int mappings() {
  int lines = 0;
  FILE* f = std::fopen("/proc/self/maps", "r");
  for (int c; (c = std::getc(f)) != EOF;) lines += c == '\n';
  std::fclose(f);
  return lines;
}

void check_windows(std::size_t n, bool guarded) {
  std::set<std::size_t> colours;
  std::set<char*> seen;
  for (char* top : some(n)) {
    bounds b{};
    REQUIRE(seen.insert(top).second);
    REQUIRE(find(top - 1, b) && b.low - b.guard == 64 << 10 && b.stack_max == 256 << 10);
    REQUIRE(reinterpret_cast<std::uintptr_t>(top) % 16 == 0);
    REQUIRE(b.high - top <= 1024 + 16);                                  // colours
    REQUIRE((reinterpret_cast<std::uintptr_t>(top - 1) & 4095) >= 2048); // 2 KB in the first page
    REQUIRE(top - b.low >= 256 << 10);
    std::size_t stride = static_cast<std::size_t>(b.high - b.guard);
    REQUIRE(stride & (stride - 1));
    colours.insert(static_cast<std::size_t>(b.high - top));
    REQUIRE(writable(top - 1) && writable(b.low + 64));
    REQUIRE(writable(b.low - 1) == !guarded && writable(b.guard) == !guarded);
    REQUIRE(!find(b.high, b) || b.guard != top);
  }
  REQUIRE(colours.size() == 16);
  bounds none{};
  REQUIRE(!find(&colours, none));
}

TEST(StackWindows, AreGuardedColouredAndNoPowerOfTwoApart) {
  EXPECT_EXIT((start_here(), check_windows(300, guards() != guard_kind::canary), std::_Exit(0)), ExitedWithCode(0), "");
}
void check_kind(guard_kind k) {
  if (!can_guard(k)) {
    dprintf(2, "left out: no guards by %s here\n", guard_names[static_cast<int>(k)]);
    std::_Exit(0);
  }
  start({.guard = static_cast<int>(k)});
  check_windows(300, k != guard_kind::canary);
  REQUIRE(guards() == k);
  std::_Exit(0);
}
TEST(StackWindows, GuardedByEachKindThatThisKernelHas) {
  for (guard_kind k : {guard_kind::madvise, guard_kind::poison, guard_kind::mprotect, guard_kind::canary})
    EXPECT_EXIT(check_kind(k), ExitedWithCode(0), "") << guard_names[static_cast<int>(k)];
}
TEST(StackWindows, TheBestKindIsChosen) {
  EXPECT_EXIT(
      {
        start({});
        REQUIRE(guards() == (can_guard(guard_kind::madvise)  ? guard_kind::madvise
                             : can_guard(guard_kind::poison) ? guard_kind::poison
                                                             : guard_kind::mprotect));
        std::_Exit(0);
      },
      ExitedWithCode(0), "");
}
// Whoever closes every descriptor (a daemon does) takes userfaultfd's along: later windows are guarded otherwise.
TEST(StackWindows, DescriptorsClosedUnderIt) {
  EXPECT_EXIT(
      {
        start_here();
        some(300);
        close_range(3, ~0u, 0);
        for (char* top : some(300)) {
          bounds b{};
          REQUIRE(find(top - 1, b) && writable(top - 1));
          REQUIRE(guards() == guard_kind::canary || !writable(b.low - 1));
        }
        std::_Exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(StackWindows, BudgetSpent_CanaryWithOneWarning) {
  EXPECT_EXIT(
      {
        start({.guard = static_cast<int>(guard_kind::mprotect), .mprotect_budget = 21});
        std::vector<char*> tops = some(200);
        int guarded = 0;
        for (char* t : tops) {
          bounds b{};
          find(t - 1, b);
          guarded += !writable(b.low - 1);
          REQUIRE(canary_intact(t));
        }
        bounds b{};
        find(tops[150] - 1, b);
        std::memset(b.low, 7, 1);
        REQUIRE(!canary_intact(tops[150]) && canary_intact(tops[149]));
        REQUIRE(guards() == guard_kind::canary);
        std::_Exit(guarded == 10 ? 0 : 1);
      },
      ExitedWithCode(0), "^grt: warning: no guard pages for further stacks: [^\n]*sysctl vm.max_map_count=[0-9]+\n$");
}
TEST(StackWindows, ManyInFewMappings) {
  EXPECT_EXIT(
      {
        start_here();
        int before = mappings();
        some(10000);
        std::_Exit(guards() == guard_kind::madvise ? mappings() - before > 20 : 0);
      },
      ExitedWithCode(0), "");
}
TEST(StackWindows, CacheIsLastInFirstOut_AndSpills) {
  EXPECT_EXIT(
      {
        start_here();
        cache c;
        REQUIRE(take_credits(1000));
        char* a = get(c);
        char* b = get(c);
        put(c, a);
        put(c, b);
        REQUIRE(get(c) == b);
        REQUIRE(get(c) == a);
        std::vector<char*> all(1, a);
        all.push_back(b);
        while (all.size() < 600) all.push_back(get(c));
        for (char* t : all) put(c, t);
        std::set<char*> again;
        for (int i = 0; i < 600; i++) again.insert(get(c));
        REQUIRE(again == std::set<char*>(all.begin(), all.end())); // nothing new was made, nothing given twice
        std::_Exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(StackWindows, EverySizeClass_IsGuardedWritableToTheEndAndReused) {
  EXPECT_EXIT(
      {
        start_here();
        for (std::size_t want = stack_max_least; want <= stack_max_most; want *= 2) {
          std::vector<char*> tops;
          for (int i = 0; i < 40; i++) tops.push_back(get_sized(round_stack_max(want)));
          for (char* top : tops) {
            bounds b{};
            REQUIRE(top && find(top - 1, b) && b.stack_max == want && static_cast<std::size_t>(top - b.low) >= want);
            for (char* p = b.low + 64; p < top; p += 4096) *p = 1;
            REQUIRE(guards() == guard_kind::canary || (!writable(b.low - 1) && !writable(b.guard)));
            REQUIRE(canary_intact(top));
          }
          for (char* top : tops) put_sized(top);
          std::set<char*> again;
          for (int i = 0; i < 40; i++) again.insert(get_sized(want));
          REQUIRE(again == std::set<char*>(tops.begin(), tops.end()));
        }
        std::_Exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(StackWindows, FreeOnesLoseTheirPages_GuardsAndCanariesStay) {
#if defined(GRT_TEST_EMULATED)
  GTEST_SKIP() << "qemu-user does not say which pages are in memory";
#endif
  EXPECT_EXIT(
      {
        start_here();
        constexpr std::size_t n = 500;
        std::uint64_t dropped = 0;
        std::vector<char*> tops;
        cache c;
        for (std::size_t stack_max : {std::size_t{256} << 10, std::size_t{1} << 20}) {
          tops.clear();
          for (std::size_t i = 0; i < n; i++) tops.push_back(get_sized(stack_max));
          for (char* top : tops)
            for (char* p = top - 200000; p < top; p += 4096) *p = 1;
          REQUIRE(resident_bytes() > n * 200000);
          for (char* top : tops) put_sized(top);
          reclaim_begin(false); // young ones are spared
          while (drop_free(dropped)) continue;
          REQUIRE(dropped == 0 && resident_bytes() > n * 200000);
          reclaim_begin(false);
          while (drop_free(dropped)) continue;
          REQUIRE(dropped > n - 64 && resident_bytes() < (guards() == guard_kind::canary ? 3 : 1) * n * 4096);
          dropped = 0;
          for (char* top : tops) {
            bounds b{};
            REQUIRE(find(top - 1, b) && canary_intact(top) && top[-1] == 0);
            REQUIRE(guards() == guard_kind::canary || (!writable(b.low - 1) && !writable(b.guard)));
          }
          std::set<char*> again;
          for (std::size_t i = 0; i < n; i++) again.insert(get_sized(stack_max));
          REQUIRE(again == std::set<char*>(tops.begin(), tops.end()));
          for (char* top : tops) put_sized(top);
        }
        std::_Exit(0);
      },
      ExitedWithCode(0), "");
}
void whole_pass(bool all) {
  std::uint64_t dropped = 0;
  reclaim_begin(all);
  while (drop_free(dropped) || drop_lists() || drop_tables()) continue;
}
bool guarded(char* top) {
  bounds b{};
  REQUIRE(find(top - 1, b));
  return !writable(b.low - 1) && !writable(b.guard);
}
std::vector<char*> used(std::size_t n, std::size_t stack_max) {
  std::vector<char*> tops;
  for (std::size_t i = 0; i < n; i++) {
    tops.push_back(get_sized(stack_max));
    REQUIRE(tops.back() && (guards() == guard_kind::canary || guarded(tops.back())));
  }
  return tops;
}
void put_all(const std::vector<char*>& tops) {
  for (char* top : tops) put_sized(top);
}
void lose_page_tables() {
  start_here();
  std::set<char*> first;
  for (int round = 0; round < 3; round++) {
    std::vector<char*> tops = used(4096, 64 << 10);
    std::set<char*> these(tops.begin(), tops.end());
    if (first.empty()) first = these;
    REQUIRE(first == these);
    std::size_t empty = 0, bare = 0;
    for (char* top : tops) empty += top[-1] == 0, top[-1] = 1;
    REQUIRE(empty >= 4096 - 32); // the newest keep a page
    put_all(tops);
    whole_pass(true);
    if (guards() != guard_kind::canary)
      for (char* top : tops) bare += !guarded(top);
    REQUIRE(guards() == guard_kind::madvise && tables_go() ? bare > 3900 : bare == 0);
  }
  std::_Exit(0);
}
TEST(StackWindows, FreeOnesLoseTheirPageTables_AndAreGuardedAgain) {
  EXPECT_EXIT(lose_page_tables(), ExitedWithCode(0), "");
}
// A few are not worth it, nor are those that were needed a moment ago; and what is locked keeps pages and guards.
void few_or_young() {
  start_here();
  std::vector<char*> few = used(500, 64 << 10);
  put_all(few);
  whole_pass(true);
  for (char* top : few) REQUIRE(guards() == guard_kind::canary || guarded(top));
  std::vector<char*> many = used(4096, 64 << 10);
  put_all(many);
  whole_pass(false);
  for (char* top : many) REQUIRE(guards() == guard_kind::canary || guarded(top));
  std::_Exit(0);
}
TEST(StackWindows, FewOrYoungOnesKeepTheirPageTables) { EXPECT_EXIT(few_or_young(), ExitedWithCode(0), ""); }
// MADV_GUARD_INSTALL answers EINVAL then.
void locked_while_bare() {
  start_here();
  std::vector<char*> tops = used(4096, 64 << 10);
  put_all(tops);
  whole_pass(true);
  bounds b{};
  find(tops[0] - 1, b);
  bool bare = guards() == guard_kind::madvise && !guarded(tops[0]);
  if (mlock(b.guard, 4096)) std::_Exit(0); // not allowed
  used(4096, 64 << 10);                    // looks at the guards
  REQUIRE(!bare || guards() == guard_kind::mprotect);
  std::_Exit(0);
}
TEST(StackWindows, LockedWhileBare_AnotherKindOfGuard) { EXPECT_EXIT(locked_while_bare(), ExitedWithCode(0), ""); }
// The list of free windows stays as long as what is in it, however often its lower end goes cold.
void list_stays_short() {
  start_here();
  std::vector<char*> tops;
  auto take = [&](std::size_t n) {
    while (n--) tops.push_back(get_sized(64 << 10));
  };
  auto give = [&](std::size_t n) {
    for (; n--; tops.pop_back()) put_sized(tops.back());
  };
  for (int i = 0; i < 100; i++) {
    take(3000 - tops.size());
    give(2500);
    whole_pass(false);
    take(1200);
    give(1200);
    whole_pass(false);
  }
  REQUIRE(arenas[0].carved == 3000 && arenas[0].used_to <= 20000);
  std::_Exit(0);
}
TEST(StackWindows, TheirListStaysShort) { EXPECT_EXIT(list_stays_short(), ExitedWithCode(0), ""); }
// Whoever takes one has it alone, with its guard, whatever the reclaimer is at.
void take_while_reclaimed() {
  start_here();
  put_all(used(4096, 64 << 10));
  std::atomic<bool> over{false};
  std::vector<std::thread> takers;
  for (int t = 0; t < 3; t++)
    takers.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int round = 0; round < scaled(100); round++) {
        std::vector<char*> mine = used(random() % 200, 64 << 10);
        for (char* top : mine) top[-1] = static_cast<char>(t + 1);
        for (char* top : mine) REQUIRE(top[-1] == t + 1 && (guards() == guard_kind::canary || guarded(top)));
        put_all(mine);
      }
    });
  std::thread reclaimer([&] {
    while (!over) whole_pass(true);
  });
  for (std::thread& t : takers) t.join();
  over = true;
  reclaimer.join();
  std::_Exit(0);
}
TEST(StackWindows, TakenAndPutBackWhileTheyAreReclaimed) { EXPECT_EXIT(take_while_reclaimed(), ExitedWithCode(0), ""); }
TEST(StackWindows, DeepOnesAreFound_AndWhatIsBelowTheFrameGoes) {
  EXPECT_EXIT(
      {
        start_here();
        std::vector<char*> tops = some(300);
        for (std::size_t i = 0; i < tops.size(); i++)
          for (char* p = tops[i] - (i % 3 ? 100 : 100000); p < tops[i]; p += 4096) *p = 7;
        reclaim_begin(false);
        while (find_deep()) continue;
        span s;
        for (std::size_t i = 0; i < tops.size(); i++) {
          REQUIRE(deep(tops[i]) || i % 3 != 0);
          REQUIRE(below(tops[i], tops[i] - 300, s));
          REQUIRE(s.high <= tops[i] - 300 - 128 - 4096 && s.high > tops[i] - 300 - 128 - 3 * 4096);
          drop(s);
          REQUIRE(canary_intact(tops[i]));
        }
        REQUIRE(resident_bytes() < 4 * 320 * 4096);
        for (std::size_t i = 0; i < tops.size(); i++) {
          below(tops[i], tops[i] - 300, s);
          char* first = tops[i] - (i % 3 ? 100 : 100000);
          for (char* p = first; p < tops[i]; p += 4096) REQUIRE(*p == (p < s.high ? 0 : 7));
        }
        REQUIRE(!below(tops[0], tops[0] + 64, s) && !below(tops[0], tops[0] - (1 << 20), s));
        std::_Exit(0);
      },
      ExitedWithCode(0), "");
}
TEST(StackWindows, SizesAreRoundedUpOrRefused) {
  EXPECT_EXIT(
      {
        start_here();
        REQUIRE(round_stack_max(0) == 256 << 10 && round_stack_max(65537) == 128 << 10 &&
                round_stack_max(8 << 20) == 8 << 20);
        for (std::size_t bad : {std::size_t{1}, std::size_t{65535}, (std::size_t{8} << 20) + 1}) {
          try {
            round_stack_max(bad);
            std::_Exit(1);
          } catch (const std::invalid_argument& e) {
            REQUIRE(std::strstr(e.what(), "65536 (64K) to 8388608 (8M)"));
          }
        }
        std::_Exit(0);
      },
      ExitedWithCode(0), "");
}
} // namespace
