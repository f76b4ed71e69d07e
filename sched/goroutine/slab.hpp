// sched/goroutine/slab.hpp - the arena of Gs, which is also the registry of all goroutines.
#pragma once
#include <cstdint>

namespace grt {

struct G;
struct P;
bool slab_start() noexcept; // returns false if there is no address space
G* slab_begin() noexcept;   // every slot in [begin, end) stays readable for ever; `kind` says whether it is in use
G* slab_end() noexcept;
/// Like g_alloc, but does not wait for a sort. null: no memory, or a sort has taken all free slots.
G* g_alloc_now(P* p) noexcept;
/// Begins a sort. Caller: the scavenger, once in each pass. Returns false if there are too few slots for a sort.
/// `all`: takes also the slots that have been needed since the last pass.
bool slab_sort_begin(bool all) noexcept;
/// Does a part of the sort. To be called until it returns false, never inside a bracket. Adds the number of dropped
/// pages to `dropped`.
bool slab_sort(std::uint64_t& dropped) noexcept;
bool slab_sorting() noexcept;       // a sort is under way
unsigned slab_free_most() noexcept; // how many free slots a P keeps at most; then it gives half of them to the pool

} // namespace grt
