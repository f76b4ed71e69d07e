// sched/slab.hpp - the arena of Gs as a registry.
#pragma once

namespace grt {

struct G;
bool slab_start() noexcept; // false: no address space
G* slab_begin() noexcept;   // every slot in [begin, end) is readable for ever; kind says whether it is alive
G* slab_end() noexcept;
unsigned slab_free_most() noexcept; // free slots a P keeps before it gives half of them to the others

} // namespace grt
