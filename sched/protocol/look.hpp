// sched/protocol/look.hpp - how debugging code inspects a goroutine that may be running. Templates over
// the memory (memory.hpp).
//
// A goroutine has a sequence count, G::seq. Bit 0 belongs to the switch. The other bits count:
//
//   count  state of the goroutine                              who adds one to reach it
//   even   saved: its frame, its sp and its park note do not   the switch that leaves it, after the save
//          change until somebody switches to it
//   odd    on a thread: all of that may change                 the switch that enters it, before its first
//                                                              instruction
//
// There is one exception: a goroutine that ends and gives its window to the next one does not switch. It
// adds one to its own count and one to the count of the next one (end.cpp).
//
// The count belongs to the slot, not to the goroutine: it continues when the slot is used again. So one
// pattern is enough for every reader: read seq, read everything else, read seq again. If both reads are
// equal, no switch happened in between, and the values are from one moment. [LOOK-2]
//
//   switch:  save; sp = ..; seq = even (release)       reader:  seq (acquire); frame, sp, note
//            seq = odd; run: frame, note = ..                   membarrier, where loads or stores are weak; seq
//
// The writer pays one instruction on each side. x86 keeps stores in order, and loads too. On other cores
// the reader calls membarrier: a core that has stored something after `seq = odd` must then show
// `seq = odd` as well.
//
// The count has 30 bits. It repeats after 2^30 switches to the goroutine, which take at least ten seconds
// even if the process does nothing else. A reader would have to be interrupted between its two reads for
// exactly that long.
//
// Rejected: eight bits, which repeat within a time slice.
// Rejected: a lock in the goroutine. Every switch would pay for it.
// Rejected: to ask each M whether it runs the goroutine. That misses what happens between two questions,
// and is slow with thousands of threads.
#pragma once
#include "sched/protocol/memory.hpp"

namespace grt::protocol {

inline constexpr std::uint32_t seq_one = 2; // GRT_G_SEQ_ONE in arch/offsets.h

inline constexpr bool on_thread(std::uint32_t seq) noexcept { return seq & seq_one; }

/// What arch/*/switch.S does for the goroutine that it has saved. Also called for the G of a foreign thread
/// that is about to block.
template <class A, class G> GRT_INLINE void is_saved(G* g) {
  std::uint32_t s = A::load(g->seq, std::memory_order_relaxed);
  A::store(g->seq, s + seq_one, std::memory_order_release, site::look_saved); // [LOOK-2]
}

/// What arch/*/switch.S does for the goroutine that it switches to.
template <class A, class G> GRT_INLINE void is_entered(G* g) {
  std::uint32_t s = A::load(g->seq, std::memory_order_relaxed);
  A::store(g->seq, s + seq_one, std::memory_order_relaxed);
}

/// Caller: a reader, before it reads anything else of g.
template <class A, class G> GRT_INLINE std::uint32_t look_begin(const G* g) {
  return A::load(g->seq, std::memory_order_acquire, site::look_begin); // [LOOK-2]
}

/// Caller: a reader. Returns whether all that was read since look_begin() is from one moment.
template <class A, class G> [[nodiscard]] GRT_INLINE bool look_holds(const G* g, std::uint32_t seq) {
  if (!A::loads_in_order()) A::all_threads_fence(site::look_fence); // [LOOK-2] the data first, then seq again
  // Bit 0 is not part of the count: a switch sets or clears it for a goroutine in an exception handler.
  return ((A::load(g->seq, std::memory_order_relaxed) ^ seq) & ~std::uint32_t{1}) == 0;
}

} // namespace grt::protocol
