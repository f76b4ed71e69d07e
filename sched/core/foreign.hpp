// sched/core/foreign.hpp - threads grt did not make: they wait where a goroutine parks.
//
// Each gets a G of its own (kind foreign) at its first blocking call, kept in a list until the thread ends: the slot
// goes back as thread_end.hpp says, and a destructor that waits after that gets a new one, which goes back, too.
// G::birth is the futex word: 1 from before the lock it parks under is released until ready() stores 0. [FGN-1]
#pragma once
#include <cstdint>

#include "sched/goroutine/g.hpp"

namespace grt {

G* foreign_self();           // throws std::system_error: no memory. Allocates: the caller holds no lock
G* foreign_known() noexcept; // the calling thread's, or null if it has none yet
void foreign_park(G* self, std::uintptr_t release, wait_reason why, const void* object) noexcept;
void foreign_ready(G* g) noexcept;
/// How many foreign threads block in grt now.
unsigned foreign_blocked() noexcept;
/// Does the thread with that id?
bool foreign_blocks(int tid) noexcept;

} // namespace grt
