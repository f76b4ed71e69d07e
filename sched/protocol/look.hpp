// sched/protocol/look.hpp - how debugging code reads a goroutine that may be running, as templates over the memory
// (memory.hpp).
//
// A goroutine has a sequence count, G::seq. Its bit 0 belongs to the switch; the rest counts switches:
//
//   count  the goroutine                                          who adds one
//   even   is saved: its frame, its sp and its park note hold     the switch that leaves it, after the save
//          still until somebody switches to it
//   odd    stands on a thread, and may change all of that         the switch that enters it, before its first
//                                                                 instruction; an ended goroutine whose window the next
//                                                                 one takes over counts for both (end.cpp)
//
// The count belongs to the slot, not to the goroutine: it goes on when the slot is used again. So one reader's pattern
// is enough for every question: read seq, read everything else, read seq again. Both reads equal: nothing was switched
// in between, and what was read is true of one moment. [LOOK-2]
//
//   switch:  save; sp = ..; seq = even (release)       reader:  seq (acquire); frame, sp, note
//            seq = odd; run: frame, note = ..                   membarrier, where loads or stores are weak; seq
//
// The writer pays one instruction a side. On x86 stores and loads stay in order. Elsewhere the reader's membarrier
// makes every core that has stored something from after `seq = odd` show `seq = odd` first.
//
// The count has 30 bits and repeats after 2^30 switches to the goroutine, ten seconds of nothing else at the least. A
// reader would have to be interrupted between its two reads for exactly that long. Rejected: eight bits, which repeat
// within a time slice; a lock in the goroutine, which every switch would pay for; asking each M whether it runs the
// goroutine, which misses what happens between the questions and is slow with thousands of threads.
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

inline constexpr std::uint32_t seq_one = 2; // GRT_G_SEQ_ONE in arch/offsets.h

inline constexpr bool on_thread(std::uint32_t seq) noexcept { return seq & seq_one; }

/// What arch/*/switch.S does for the goroutine that it has saved. Also a foreign thread's record as it blocks.
template <class A, class G> GRT_INLINE void is_saved(G* g) {
  std::uint32_t s = A::load(g->seq, std::memory_order_relaxed);
  A::store(g->seq, s + seq_one, std::memory_order_release, site::look_saved); // [LOOK-2]
}

/// What arch/*/switch.S does for the goroutine that it switches to.
template <class A, class G> GRT_INLINE void is_entered(G* g) {
  std::uint32_t s = A::load(g->seq, std::memory_order_relaxed);
  A::store(g->seq, s + seq_one, std::memory_order_relaxed);
}

/// Reader. Everything it reads of g comes after.
template <class A, class G> GRT_INLINE std::uint32_t look_begin(const G* g) {
  return A::load(g->seq, std::memory_order_acquire, site::look_begin); // [LOOK-2]
}

/// Reader. true: what was read since look_begin() was true of one moment.
template <class A, class G> [[nodiscard]] GRT_INLINE bool look_holds(const G* g, std::uint32_t seq) {
  if (!A::loads_in_order()) A::all_threads_fence(site::look_fence); // [LOOK-2] what was read before seq is read again
  // Bit 0 is no count: a goroutine that leaves or enters a handler of an exception sets it on its way.
  return ((A::load(g->seq, std::memory_order_relaxed) ^ seq) & ~std::uint32_t{1}) == 0;
}

} // namespace grt::protocol
