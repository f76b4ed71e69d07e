// tests/model/look_test.cpp - debugging code believes what it read of a goroutine only if that was true of one moment.
#include "sched/protocol/look.hpp"
#include "sched/protocol/sleep.hpp"
#include "tests/model/faults.hpp"

namespace {
using namespace model;
using namespace grt::protocol;

// The reader's memory: its count may be cut off, as a narrow one would be.
template <unsigned mask> struct cut : modelled {
  template <class T> static T load(const atomic<T>& a, std::memory_order o, site at = {}) {
    return static_cast<T>(modelled::load(a, o, at) & mask);
  }
};

struct G {
  modelled::atomic<std::uint32_t> seq{0u};
  // Two words of a stack: both hold the number of the last run that stood on it.
  modelled::atomic<std::uint32_t> frame{0u}, sp{0u};
};

// Thread 0 runs the goroutine, saves it, and runs it again, `runs` times in all; thread 1 looks at it at any time.
template <unsigned runs, unsigned mask> struct looked_at : world {
  G g;
  looked_at(memory m, site without) : world(m, without) {
    name(g.seq, "seq");
    name(g.frame, "frame");
    name(g.sp, "sp");
  }
  void program(unsigned t) override {
    if (t == 0) {
      for (std::uint32_t run = 1; run <= runs; run++) {
        is_entered<modelled>(&g);
        modelled::store(g.frame, run, std::memory_order_relaxed);
        modelled::store(g.sp, run, std::memory_order_relaxed);
        is_saved<modelled>(&g);
      }
      return;
    }
    using reader = cut<mask>;
    std::uint32_t seq = look_begin<reader>(&g);
    if (on_thread(seq)) return;
    std::uint32_t sp = modelled::load(g.sp, std::memory_order_relaxed);
    std::uint32_t frame = modelled::load(g.frame, std::memory_order_relaxed);
    if (!look_holds<reader>(&g, seq)) return;
    check(sp == frame, "a sp of one run and a frame of another are believed");
    check(sp * 2 * seq_one == seq || mask != 0xff, "what is believed is not of the run that was counted");
  }
};
using once_again = looked_at<2, 0xff>;
using thrice = looked_at<3, 0xff>;
using narrow = looked_at<3, 7>; // its count repeats after two runs

// A second thread takes the goroutine over, as its waker does, under the lock that the switch releases.
struct moves : world {
  G g;
  modelled::lock queue;
  modelled::plain<bool> waits{false};
  moves(memory m, site without) : world(m, without) {
    n_threads_ = 3;
    name(g.seq, "seq");
    name(g.frame, "frame");
    name(g.sp, "sp");
    name(queue, "queue");
    name(waits, "waits");
  }
  void run(std::uint32_t n) {
    is_entered<modelled>(&g);
    modelled::store(g.frame, n, std::memory_order_relaxed);
    modelled::store(g.sp, n, std::memory_order_relaxed);
  }
  void program(unsigned t) override {
    if (t == 0) {
      queue.take();
      run(1);
      waits = true;
      is_saved<modelled>(&g);
      far_side<modelled>(queue);
    } else if (t == 1) {
      modelled::guard hold(queue);
      if (!waits) return;
      run(2);
      is_saved<modelled>(&g);
    } else {
      std::uint32_t seq = look_begin<modelled>(&g);
      if (on_thread(seq)) return;
      std::uint32_t sp = modelled::load(g.sp, std::memory_order_relaxed);
      std::uint32_t frame = modelled::load(g.frame, std::memory_order_relaxed);
      if (look_holds<modelled>(&g, seq)) check(sp == frame, "a sp of one run and a frame of another are believed");
    }
  }
};

TEST(Look, OnceAgain_Holds) { expect_holds<once_again>("once again", 10); }
TEST(Look, Thrice_Holds) { expect_holds<thrice>("thrice", 10); }
TEST(Look, Moves_Holds) { expect_holds<moves>("moves", 10); }
TEST(Look, CountThatRepeats_Fails) {
  for (memory m : {memory::tso, memory::weak}) EXPECT_NE(narrow(m, site::none).explore().failure, "");
}

struct LookWithout : testing::TestWithParam<fault> {};
TEST_P(LookWithout, Fails) { expect_fails<once_again, thrice, moves>(GetParam()); }
INSTANTIATE_TEST_SUITE_P(One, LookWithout,
                         testing::ValuesIn(faults({}, {site::look_saved, site::look_begin, site::look_fence})),
                         fault_name);
} // namespace
