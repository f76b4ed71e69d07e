// sched/slab.cpp - where Gs come from: one contiguous reserved arena, opened 2 MB at a time, slots reused for ever.
#include "sched/slab.hpp"

#include <algorithm>
#include <cstdlib>
#include <sys/mman.h>

#include "sched/sched.hpp"

namespace grt {
namespace {
constexpr std::size_t slab_bytes = 2 << 20;
std::uint32_t spill_n = 1024; // in step with stack::batch_most(): a free G holds a window credit
spin_lock lock;
char *base, *limit;
std::atomic<char*> opened{nullptr}, carved{nullptr};
G* pool;  // chains of spill_n, linked by w.next
G* loose; // one chain of any length: what threads without a P gave back or broke off the pool

bool open_more() noexcept {
  char* at = opened.load(std::memory_order_relaxed);
  if (at + slab_bytes > limit || mprotect(at, slab_bytes, PROT_READ | PROT_WRITE)) return false;
  if (at != base) madvise(at, slab_bytes, MADV_HUGEPAGE); // the first slab stays small: most programs need no more
  san::root_region(at, slab_bytes);
  opened.store(at + slab_bytes, std::memory_order_release); // [SLAB-1] slots below may be read
  return true;
}

// Under lock. Up to n fresh slots, each with a window credit; returns how many.
std::size_t carve(std::size_t n, char*& first) noexcept {
  if (carved.load(std::memory_order_relaxed) == opened.load(std::memory_order_relaxed) && !open_more()) return 0;
  first = carved.load(std::memory_order_relaxed);
  n = std::min(n, static_cast<std::size_t>(opened.load(std::memory_order_relaxed) - first) / sizeof(G));
  if (!stack::take_credits(n) && !(n > 1 && stack::take_credits(n = 1))) return 0;
  carved.store(first + n * sizeof(G), std::memory_order_relaxed);
  return n;
}
} // namespace

bool slab_start() noexcept {
  void* p = MAP_FAILED;
  std::size_t n = std::max(stack::most_reserved() / 256, 4 * slab_bytes); // 256 bytes here for some 300 KB there
  for (; n > 2 * slab_bytes; n /= 2)
    if ((p = san::map_quietly(n, PROT_NONE, MAP_NORESERVE)) != MAP_FAILED) break;
  if (p == MAP_FAILED) return false;
  spill_n = 8 * stack::batch_most();
  base = reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(p) + slab_bytes - 1) & ~(slab_bytes - 1));
  limit = static_cast<char*>(p) + n;
  opened.store(base, std::memory_order_relaxed);
  carved.store(base, std::memory_order_relaxed);
  return true;
}

G* slab_begin() noexcept { return reinterpret_cast<G*>(base); }
// [SLAB-1]
G* slab_end() noexcept {
  return reinterpret_cast<G*>(std::min(opened.load(std::memory_order_acquire), carved.load(std::memory_order_relaxed)));
}

static GRT_NOINLINE G* alloc_slow(P* p) noexcept {
  if (p->slab == p->slab_end) {
    spin_guard hold(lock);
    if (G* g = pool) {
      pool = reinterpret_cast<G*>(g->w.next);
      p->free = g->link;
      p->n_free = spill_n - 1;
      return g;
    }
    if (G* g = loose) {
      loose = g->link;
      return g;
    }
    std::size_t n = carve(p->carve, p->slab);
    if (!n) return nullptr;
    p->slab_end = p->slab + n * sizeof(G);
    p->carve = std::min(p->carve * 2, spill_n);
  }
  G* g = reinterpret_cast<G*>(p->slab);
  p->slab += sizeof(G);
  return g;
}

unsigned slab_free_most() noexcept { return 2 * spill_n; }

G* g_alloc(P* p) noexcept {
  G* g = p->free;
  if (GRT_LIKELY(g)) {
    p->free = g->link;
    p->n_free--;
    return g;
  }
  return alloc_slow(p);
}

static GRT_NOINLINE void spill(P* p) noexcept {
  G *head = p->free, *last = head;
  for (std::size_t i = 1; i < spill_n; i++) last = last->link;
  p->free = last->link;
  last->link = nullptr;
  p->n_free -= spill_n;
  spin_guard hold(lock);
  head->w.next = reinterpret_cast<detail::waiter*>(pool);
  pool = head;
}

void g_free(P* p, G* g) noexcept {
  g->kind = g_kind::free;
  g->link = p->free;
  p->free = g;
  if (GRT_UNLIKELY(++p->n_free == p->free_most)) spill(p);
}

G* g_alloc_anywhere() noexcept {
  spin_guard hold(lock);
  if (!loose && pool) { // what a thread of the program's spawns ends on a P, and comes back from there in chains
    loose = pool;
    pool = reinterpret_cast<G*>(pool->w.next);
  }
  if (G* g = loose) {
    loose = g->link;
    return g;
  }
  char* at;
  return carve(1, at) ? reinterpret_cast<G*>(at) : nullptr;
}

void g_free_anywhere(G* g) noexcept {
  spin_guard hold(lock);
  g->kind = g_kind::free;
  g->link = loose;
  loose = g;
}

} // namespace grt
