// sched/core/foreign.hpp - foreign threads: threads that grt did not make. They wait where a goroutine parks.
//
// A foreign thread gets a G of its own (kind foreign) at its first blocking call. A list keeps the G until the
// thread ends; thread_end.hpp says how its slot is freed. A destructor that waits after that gets a new slot, which
// is freed as well. G::birth is the futex word. It is 1 from before the lock under which the thread parks is
// released, until ready() stores 0. [FGN-1]
#pragma once
#include <cstdint>

#include "sched/goroutine/g.hpp"

namespace grt {

G* foreign_self();           // allocates, so the caller must hold no lock; throws std::system_error: no memory
G* foreign_known() noexcept; // the G of the calling thread; null if it has none yet
void foreign_park(G* self, std::uintptr_t release, wait_reason why, const void* object) noexcept;
void foreign_ready(G* g) noexcept;
/// How many foreign threads block in grt now.
unsigned foreign_blocked() noexcept;
/// Does the thread with that id block in grt?
bool foreign_blocks(int tid) noexcept;

} // namespace grt
