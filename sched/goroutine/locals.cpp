// sched/goroutine/locals.cpp - goroutine-local values.
//
// A grt::local has a slot and a serial number. Slots are dense and are reused; serial numbers are never reused. A
// goroutine that has used a grt::local has a table in its g_ext, indexed by slot, and a list of its values, ordered
// by age. A table entry counts only if its serial number matches. So the value of a destroyed local stays in the
// list, where the end of the goroutine finds it, while the table entry goes to the next owner of the slot.
//
// A foreign thread has the same table and list in thread_local storage. It gets no G for that, so the runtime is not
// started. Its values are destroyed together with its thread_local objects; values that those objects' destructors
// make are destroyed as thread_end.hpp says.
//
// Rejected: a registry of the values of all goroutines, so that a local could destroy them in its destructor. A
// goroutine may be using one of them at that moment.
#include "sched/goroutine/locals.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>

#include "sched/core/sched.hpp"
#include "sched/runtime/thread_end.hpp"

namespace grt {
namespace {
constexpr std::uint32_t slots_max = 1 << 16;
constexpr int rounds = 4; // the value of PTHREAD_DESTRUCTOR_ITERATIONS

spin_lock lock;
std::uint64_t used[slots_max / 64]; // under lock
std::uint32_t low;                  // under lock: no word below has a free bit

thread_local locals of_thread;
thread_local bool at_its_end; // this thread's `first_end` has been destroyed
struct first_end {
  ~first_end() {
    of_thread.destroy();
    at_its_end = true;
  }
};

// For reading: it registers no destructor for a thread that has no values.
GRT_INLINE locals* mine() noexcept {
  M* m = me();
  if (GRT_UNLIKELY(!m)) return &of_thread;
  return GRT_LIKELY(m->g->ext != nullptr) ? &m->g->ext->values : nullptr;
}
} // namespace

void locals::reserve(std::uint32_t slot) {
  if (slot < n) return;
  std::uint32_t more = std::max<std::uint32_t>(8, n);
  while (more <= slot) more *= 2;
  auto* p = static_cast<entry*>(std::realloc(entries, more * sizeof(entry)));
  if (!p) throw std::bad_alloc();
  std::fill(p + n, p + more, entry{0, nullptr});
  entries = p;
  n = more;
}

void locals_end() noexcept { of_thread.destroy(); }

void locals::destroy() noexcept {
  for (int round = 0; newest && round < rounds; round++) {
    detail::local_node* list = newest; // values that destructors make begin a new list
    newest = nullptr;
    while (detail::local_node* d = list) {
      list = d->older;
      if (entry& e = entries[d->key.slot]; e.node == d) e = {0, nullptr};
      d->destroy(d);
    }
  }
  std::free(entries);
  entries = nullptr;
  n = 0;
  newest = nullptr;
}

namespace detail {

local_key local_open() {
  static std::uint64_t serial; // under lock
  held_guard hold(lock);
  for (; low < slots_max / 64; low++)
    if (std::uint64_t free = ~used[low]) {
      auto bit = static_cast<std::uint32_t>(__builtin_ctzll(free));
      used[low] |= std::uint64_t{1} << bit;
      return {low * 64 + bit, ++serial};
    }
  throw std::length_error("grt::local: 65536 exist");
}

void local_close(local_key k) noexcept {
  held_guard hold(lock);
  used[k.slot / 64] &= ~(std::uint64_t{1} << k.slot % 64);
  low = std::min(low, k.slot / 64);
}

local_node* local_find(local_key k) noexcept {
  locals* l = mine();
  return GRT_LIKELY(l != nullptr) ? l->find(k) : nullptr;
}

void local_room(local_key k) {
  if (M* m = me()) {
    if (!m->g->ext) m->g->ext = new g_ext;
  } else {
    thread_local first_end at_end;
    (void)&at_end;
    if (GRT_UNLIKELY(at_its_end) && !await_thread_end()) throw std::bad_alloc();
  }
  mine()->reserve(k.slot);
}

void local_add(local_node* n) noexcept {
  locals* l = mine();
  n->older = l->newest;
  l->newest = n;
  l->entries[n->key.slot] = {n->key.serial, n};
}

} // namespace detail
} // namespace grt
