// sched/goroutine/slab.hpp - the arena of Gs as a registry.
#pragma once
#include <cstdint>

namespace grt {

struct G;
struct P;
bool slab_start() noexcept; // false: no address space
G* slab_begin() noexcept;   // every slot in [begin, end) is readable for ever; kind says whether it is alive
G* slab_end() noexcept;
/// As g_alloc, but does not wait for a sort. null: no memory, or a sort has all free slots.
G* g_alloc_now(P* p) noexcept;
/// The scavenger, once a pass. false: no slots are worth it. all: also those that were needed a moment ago.
bool slab_sort_begin(bool all) noexcept;
/// Then this until it says false. Never inside a bracket. Counts the pages that went.
bool slab_sort(std::uint64_t& dropped) noexcept;
bool slab_sorting() noexcept;       // begun, and not over
unsigned slab_free_most() noexcept; // free slots a P keeps before it gives half of them to the others

} // namespace grt
