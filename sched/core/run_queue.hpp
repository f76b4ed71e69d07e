// sched/core/run_queue.hpp - the goroutines that wait to run on one P, behind one type.
//
//   run_next  one goroutine that was just made runnable and runs next; a chain of 128 at most (Go's runnext)
//   runq      goroutines that have run before, first in, first out (Go's runq)
//   fresh     goroutines that never ran, newest first; every 16th pick takes from runq instead
//
// Newest first keeps a tree of goroutines depth-first, so its memory stays small. fair.cpp bounds how long the others
// wait: it takes the oldest of each part at the end of a slice, and gives all turns to a crowd of fresh goroutines.
//
// Caller of every function without `racy` in its name: the owner of the P, inside its bracket, or an M that has locked
// the owner out (protocol/bracket.hpp). Any thread may call the racy ones at any moment. They read plain memory that is
// being written, so their answer is a hint: it may be as of no moment, and a pointer in it may point to a free slot.
// A part that cannot grow hands the goroutine to the global queue, so a push always succeeds.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>

#include "arch/arch.hpp"
#include "base/check.hpp"
#include "sched/core/ring.hpp"
#include "sched/goroutine/g.hpp"

namespace grt {

void inject_inside(G* g) noexcept; // global_queue.cpp: inside a bracket, to the global queue

/// Reads memory that another thread may be writing. The value is a hint.
template <class T> GRT_INLINE T racy_read(const T& x) noexcept { return *const_cast<const volatile T*>(&x); }

class run_queue {
public:
  enum part : unsigned { of_runq, of_fresh };
  /// Positions count the goroutines of the part since the start; they wrap.
  struct extent {
    std::uint32_t head, tail;
  };

  // ---- how many
  /// Without run_next.
  std::uint32_t surplus() const noexcept { return fresh_.size() + runq_.size(); }
  std::uint32_t size(part of) const noexcept { return (of == of_runq ? runq_ : fresh_).size(); }
  extent extent_of(part of) const noexcept {
    const ring& r = of == of_runq ? runq_ : fresh_;
    return {r.head, r.tail};
  }
  bool has_next() const noexcept { return run_next_; }
  bool empty() const noexcept { return !run_next_ && !surplus(); }

  // ---- in
  GRT_INLINE void push(G* g) noexcept {
    if (GRT_UNLIKELY(!runq_.push(g))) inject_inside(g);
  }
  GRT_INLINE void push_fresh(G* g) noexcept {
    GRT_DCHECK(!g->sp);
    if (GRT_UNLIKELY(!fresh_.push(g))) inject_inside(g);
  }
  /// Puts g into the part where it belongs.
  void put_back(G* g) noexcept { g->sp ? push(g) : push_fresh(g); }
  /// g runs next. The goroutine that was to run next goes to the tail of runq. Returns true if there was one, so
  /// that the surplus has grown.
  GRT_INLINE bool put_next(G* g) noexcept {
    G* old = run_next_;
    run_next_ = g;
    if (!old) return false;
    push(old);
    return true;
  }
  /// g runs next if run_next is empty. Otherwise it goes to the tail of runq.
  void offer_next(G* g) noexcept {
    if (run_next_) push(g);
    else run_next_ = g;
  }

  // ---- out
  /// The usual order. Null: nothing waits here.
  GRT_INLINE G* pick() noexcept {
    if (G* g = run_next_) {
      run_next_ = nullptr;
      if (GRT_LIKELY(++chain_ & chain_most_)) return g;
      push(g);
    }
    if (fresh_.size() && (!runq_.size() || (++burst_ & burst_most_))) return fresh_.pop_back();
    if (runq_.size()) {
      prefetch_ahead();
      return runq_.pop_front();
    }
    return nullptr;
  }
  G* take_next() noexcept { return std::exchange(run_next_, nullptr); }
  /// The part must not be empty.
  G* pop_oldest(part of) noexcept {
    GRT_DCHECK(size(of));
    return of == of_runq ? runq_.pop_front() : fresh_.pop_front();
  }
  /// Takes out a goroutine for another P, from the larger part. The surplus must not be 0.
  G* pop_to_share() noexcept {
    GRT_DCHECK(surplus());
    return runq_.size() >= fresh_.size() ? runq_.pop_back() : fresh_.pop_front();
  }
  /// Takes out everything.
  template <class F> void drain(F each) noexcept {
    if (run_next_) each(take_next());
    while (fresh_.size()) each(fresh_.pop_front());
    while (runq_.size()) each(runq_.pop_front());
  }
  /// Is a yield a plain exchange: the oldest of runq out, the caller in?
  GRT_INLINE bool can_rotate() const noexcept {
    return !(reinterpret_cast<std::uintptr_t>(run_next_) | (fresh_.tail ^ fresh_.head)) && runq_.head != runq_.tail;
  }
  /// Call only if can_rotate(). Takes the oldest goroutine out of runq and puts g in, so the ring cannot overflow.
  /// If refuses(the one taken out) is true, g is not put in, and the second part of the result is false. The other
  /// goroutine stays taken out.
  template <class F> GRT_INLINE std::pair<G*, bool> rotate(G* g, F refuses) noexcept {
    std::uint32_t h = runq_.head, t = runq_.tail;
    prefetch_ahead();
    G* out = runq_.slots[h & runq_.mask];
    runq_.head = h + 1;
    if (GRT_UNLIKELY(refuses(out))) return {out, false};
    runq_.slots[t & runq_.mask] = g;
    runq_.tail = t + 1;
    return {out, true};
  }

  // ---- to another P
  /// Moves half of each part, rounded down, and at most `most` of each. Caller: the owner of this queue.
  void give_half(run_queue& to) noexcept {
    move(fresh_, to.fresh_, fresh_.size() / 2);
    move(runq_, to.runq_, runq_.size() / 2);
  }
  /// Moves half of each part, rounded up; only of runq if woken_only. If that is nothing, moves run_next. Caller: a
  /// thief, which has locked out the owner of this queue.
  void steal_half(run_queue& to, bool woken_only) noexcept {
    std::uint32_t n = woken_only ? 0 : move(fresh_, to.fresh_, (fresh_.size() + 1) / 2);
    n += move(runq_, to.runq_, (runq_.size() + 1) / 2);
    if (!n && run_next_) to.push(take_next());
  }

  // ---- modes and memory
  /// true: all turns go to fresh, for a crowd (fair.cpp). false: to all parts, as usual.
  void prefer_fresh(bool on) noexcept {
    chain_most_ = on ? 0 : chain_usual;
    burst_most_ = on ? ~0u : burst_usual;
  }
  /// Call before the owner sleeps: memory that only a crowd needed goes back to the system.
  void trim() noexcept {
    fresh_.trim();
    runq_.trim();
  }

  // ---- hints for any thread
  std::uint32_t racy_surplus() const noexcept { return racy_size(fresh_) + racy_size(runq_); }
  bool racy_has_next() const noexcept { return racy_read(run_next_) != nullptr; }
  bool racy_has_woken() const noexcept { return racy_has_next() || racy_read(runq_.head) != racy_read(runq_.tail); }
  bool racy_empty() const noexcept { return !racy_has_next() && !racy_surplus(); }
  /// What another thread saw at the front of a part. The array may be replaced during the look. So `oldest` is read at
  /// an index that is valid in any array; in a long queue that may be another goroutine than the oldest.
  struct front {
    std::uint32_t head;
    std::uint32_t n; // how many wait there; 2^31 and more: the reads do not fit together, nothing is known
    G* oldest;       // null: not known
    bool exact;      // `oldest` was read at the head itself
  };
  front racy_front(part of) const noexcept {
    const ring& r = of == of_runq ? runq_ : fresh_;
    front f{racy_read(r.head), 0, nullptr, false};
    f.n = racy_read(r.tail) - f.head;
    std::uint32_t mask = racy_read(r.mask);
    f.exact = mask < ring::least;
    if (G** slots = racy_read(r.slots)) f.oldest = racy_read(slots[f.head & std::min(mask, ring::least - 1)]);
    return f;
  }

private:
  static constexpr std::uint32_t chain_usual = 127, burst_usual = 15, most = 128;

  static std::uint32_t racy_size(const ring& r) noexcept {
    std::uint32_t n = racy_read(r.tail) - racy_read(r.head);
    return static_cast<std::int32_t>(n) < 0 ? 0 : n;
  }
  static std::uint32_t move(ring& from, ring& to, std::uint32_t n) noexcept {
    n = std::min(n, most);
    for (std::uint32_t i = 0; i < n; i++) {
      G* g = from.pop_front();
      if (!to.push(g)) inject_inside(g);
    }
    return n;
  }
  GRT_INLINE void prefetch_ahead() const noexcept {
    if (runq_.size() > 8) {
      __builtin_prefetch(runq_.at(6));
      auto frame =
          reinterpret_cast<std::uintptr_t>(runq_.at(3)->sp); // 0 if fresh: a prefetch of any address is harmless
      __builtin_prefetch(reinterpret_cast<void*>(frame));
      __builtin_prefetch(reinterpret_cast<void*>(frame + 64));
    }
  }

  G* run_next_ = nullptr;
  std::uint32_t burst_ = 0, chain_ = 0, burst_most_ = burst_usual, chain_most_ = chain_usual;
  ring fresh_, runq_;
};

} // namespace grt
