// sched/goroutine/slab.cpp - the arena of Gs: one contiguous reserved range, whose slots are reused for ever.
//
// The range is opened in slabs of 2 MB. Slots are never unmapped. But a page that has only free slots can go back to
// the kernel. It then reads as zeros, which is what free slots look like, too.
//
// The pool is a list of chains of free slots. The scavenger sorts them. A sort has three stages:
//   counting  takes the chains that have not been needed since the last pass, and counts for each page how many of
//             its slots are in them;
//   keeping   puts back the slots of pages that are not full;
//   dropping  drops the full pages.
// carve() uses dropped pages again before it carves new ones. They keep their window credits in between. A spawn that
// finds no free slot during a sort waits until the sort has put back the slots that it keeps. A timer does not wait
// (g_alloc_now).
//
// A slab is on huge pages only while it has no dropped page: otherwise khugepaged would fill the gaps within seconds.
#include "sched/goroutine/slab.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include "sched/core/sched.hpp"
#include "sched/runtime/halt.hpp"

namespace grt {
namespace {
constexpr std::size_t slab_bytes = 2 << 20;
std::uint32_t spill_n = 1024; // slots in a chain; follows stack::batch_most(), because a free G holds a window credit
spin_lock lock;
char *base, *limit;
std::atomic<char*> opened{nullptr}, carved{nullptr};
G* pool;                           // chains of spill_n slots; the chains are linked by w.next
std::size_t pool_n, pool_unneeded; // how many chains now; the least number since the last pass
G* loose; // one chain of any length: slots that threads without a P gave back, or took from the pool

// worth_it: a pass sorts only if it has as many chains.
constexpr std::size_t page_bytes = 4096, per_page = page_bytes / sizeof(G), worth_it = 4;
constexpr std::uint8_t empty = 255;
// For each page: `empty` (under lock), or how many of its slots the sorter has counted (used by the sorter only).
std::uint8_t* pages;
std::uint16_t* gaps;             // under lock: for each slab, how many of its pages are empty
std::size_t empty_n, empty_from; // under lock: how many pages are empty; no page before this one is
struct {
  std::atomic<bool> on{false};         // set and cleared under lock
  std::atomic<std::uint32_t> ended{0}; // sorts so far
  enum { counting, keeping, dropping } stage;
  G *taken, *next_chain, *at; // all slots taken; the chain after the current one; the next slot
  G* kept;
  std::uint32_t kept_n;
  std::size_t page;
} sorter;

std::size_t page_of(const void* at) noexcept {
  return static_cast<std::size_t>(static_cast<const char*>(at) - base) / page_bytes;
}

// Under lock.
void pool_push(G* head) noexcept {
  head->w.next = reinterpret_cast<detail::waiter*>(pool);
  pool = head;
  pool_n++;
}
G* pool_pop() noexcept {
  G* head = pool;
  if (!head) return nullptr;
  pool = reinterpret_cast<G*>(head->w.next);
  pool_unneeded = std::min(pool_unneeded, --pool_n);
  return head;
}

bool open_more() noexcept {
  char* at = opened.load(std::memory_order_relaxed);
  if (at + slab_bytes > limit || mprotect(at, slab_bytes, PROT_READ | PROT_WRITE)) return false;
  if (at != base) madvise(at, slab_bytes, MADV_HUGEPAGE); // the first slab stays small: most programs need no more
  san::root_region(at, slab_bytes);
  opened.store(at + slab_bytes, std::memory_order_release); // [SLAB-1] slots below may be read
  return true;
}

// Under lock. n pages of one slab, from `first` on, have become empty (n > 0) or are carved again (n < 0). The slab
// is whole again once its last empty page is carved.
void count_gaps(std::size_t first, int n) noexcept {
  std::size_t slab = first * page_bytes / slab_bytes;
  std::uint16_t before = std::exchange(gaps[slab], static_cast<std::uint16_t>(gaps[slab] + n));
  if (!gaps[slab] && slab) madvise(base + slab * slab_bytes, slab_bytes, MADV_HUGEPAGE);
  if (!before) madvise(base + slab * slab_bytes, slab_bytes, MADV_NOHUGEPAGE);
}

// Under lock. Carves up to n new slots, each with a window credit; returns how many.
std::size_t carve(std::size_t n, char*& first) noexcept {
  if (empty_n) {
    while (pages[empty_from] != empty) empty_from++;
    first = base + empty_from * page_bytes;
    std::size_t got = 0;
    for (; got < std::max<std::size_t>(n / per_page, 1) && empty_n && pages[empty_from] == empty; got++, empty_n--) {
      count_gaps(empty_from, -1);
      pages[empty_from++] = 0;
    }
    return got * per_page;
  }
  if (carved.load(std::memory_order_relaxed) == opened.load(std::memory_order_relaxed) && !open_more()) return 0;
  char* at = carved.load(std::memory_order_relaxed);
  n = std::min(n, static_cast<std::size_t>(opened.load(std::memory_order_relaxed) - at) / sizeof(G));
  if (!stack::take_credits(n) && !(n > 1 && stack::take_credits(n = 1))) return 0;
  carved.store(at + n * sizeof(G), std::memory_order_relaxed);
  first = at;
  return n;
}
} // namespace

bool slab_start() noexcept {
  void* p = MAP_FAILED;
  // A slot of 256 bytes here goes with a window of some 300 KB there: 1/256 has room to spare.
  std::size_t n = std::max(stack::most_reserved() / 256, 4 * slab_bytes);
  for (; n > 2 * slab_bytes; n /= 2)
    if ((p = san::map_quietly(n, PROT_NONE, MAP_NORESERVE)) != MAP_FAILED) break;
  if (p == MAP_FAILED) return false;
  spill_n = 8 * stack::batch_most();
  std::size_t gaps_bytes = (n / slab_bytes + 1) * sizeof *gaps;
  void* counts = san::map_quietly(gaps_bytes + n / page_bytes + 1, PROT_READ | PROT_WRITE, MAP_NORESERVE);
  if (counts == MAP_FAILED) return munmap(p, n), false;
  gaps = static_cast<std::uint16_t*>(counts);
  pages = static_cast<std::uint8_t*>(counts) + gaps_bytes;
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

// No slot was found since `ended` was `before`. Waits for a sort that is under way. Returns true if there may be a
// slot now. Only a program at its limit of memory gets here, so this may take some time.
static bool sorted(std::uint32_t before) noexcept {
  for (int i = 0; sorter.on.load(std::memory_order_acquire); i++) { // [SLAB-2]
    if (halted.load(std::memory_order_relaxed)) return false;       // the halt stops the sorter, too
    if (i < 100) sched_yield();
    else usleep(50);
  }
  return sorter.ended.load(std::memory_order_relaxed) != before;
}
template <class F> static G* alloc_or_wait(F from_lists) noexcept {
  for (;;) {
    std::uint32_t before = sorter.ended.load(std::memory_order_relaxed);
    if (G* g = from_lists()) return g;
    if (GRT_LIKELY(!sorted(before))) return nullptr;
  }
}

static G* alloc_from_all(P* p) noexcept {
  if (p->slab == p->slab_end) {
    spin_guard hold(lock);
    if (G* g = pool_pop()) {
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
  GRT_CHECK(g->kind == g_kind::free, "a slot that was carved is in use");
  p->slab += sizeof(G);
  return g;
}

static GRT_NOINLINE G* alloc_slow(P* p) noexcept {
  return alloc_or_wait([p] { return alloc_from_all(p); });
}

G* g_alloc_now(P* p) noexcept {
  if (!p->free) return alloc_from_all(p);
  p->n_free--;
  return std::exchange(p->free, p->free->link);
}

unsigned slab_free_most() noexcept { return 2 * spill_n; }

G* g_alloc(P* p) noexcept {
  G* g = p->free;
  if (GRT_LIKELY(g)) {
    GRT_DCHECK(g->kind == g_kind::free, "a goroutine in the free list");
    p->free = g->link;
    p->n_free--;
    return g;
  }
  return alloc_slow(p);
}

static GRT_NOINLINE void spill(P* p) noexcept {
  G *head = p->free, *last = head;
  for (std::size_t i = 1; i < spill_n; i++) {
    GRT_DCHECK(last && last->kind == g_kind::free, "a goroutine in the free list");
    last = last->link;
  }
  GRT_CHECK(last && last->kind == g_kind::free, "the list of free goroutines is broken");
  p->free = last->link;
  last->link = nullptr;
  p->n_free -= spill_n;
  spin_guard hold(lock);
  pool_push(head);
}

void g_give_back(P* p) noexcept {
  if (p->n_free >= spill_n) spill(p);
}

void g_free(P* p, G* g) noexcept {
  g->kind = g_kind::free;
  g_put(p, g);
}

void g_put(P* p, G* g) noexcept {
  g->link = p->free;
  p->free = g;
  if (GRT_UNLIKELY(++p->n_free == p->free_most)) spill(p);
}

static G* alloc_loose() noexcept {
  held_guard hold(lock);
  if (!loose) loose = pool_pop(); // goroutines that foreign threads spawn end on a P, so their slots come back here
  if (!loose) {
    char* at;
    for (std::size_t n = carve(1, at); n; n--, at += sizeof(G)) {
      G* g = reinterpret_cast<G*>(at);
      g->link = loose;
      loose = g;
    }
  }
  G* g = loose;
  if (g) loose = g->link;
  return g;
}

G* g_alloc_anywhere() noexcept { return alloc_or_wait(alloc_loose); }

void g_free_anywhere(G* g) noexcept {
  held_guard hold(lock);
  g->kind = g_kind::free;
  g->link = loose;
  loose = g;
}

static G* enter_chain(G* head) noexcept {
  if (head) sorter.next_chain = reinterpret_cast<G*>(head->w.next);
  return head;
}
static void start_over() noexcept { sorter.at = enter_chain(sorter.taken); }

// Returns the next of the slots taken, or null. The caller may give it away: its link has been read already.
static G* next_taken() noexcept {
  G* g = sorter.at;
  if (g) sorter.at = g->link ? g->link : enter_chain(sorter.next_chain);
  return g;
}

bool slab_sort_begin(bool all) noexcept {
  spin_guard hold(lock);
  std::size_t spare = all ? pool_n : std::exchange(pool_unneeded, pool_n);
  if (!spare || (!all && spare < worth_it)) return false;
  G** at = &pool;
  std::size_t stay = pool_n - spare;
  for (std::size_t i = 0; i < stay; i++) at = reinterpret_cast<G**>(&(*at)->w.next);
  sorter.taken = std::exchange(*at, nullptr);
  if (loose) { // otherwise each sort would leave more slots there
    loose->w.next = reinterpret_cast<detail::waiter*>(sorter.taken);
    sorter.taken = std::exchange(loose, nullptr);
  }
  start_over();
  sorter.stage = sorter.counting;
  sorter.kept = nullptr;
  sorter.kept_n = 0;
  sorter.page = 0;
  pool_n = pool_unneeded = stay;
  sorter.on.store(true, std::memory_order_relaxed);
  return true;
}

static void keep_slot(G* g) noexcept {
  g->link = sorter.kept;
  sorter.kept = g;
  if (++sorter.kept_n < spill_n) return;
  spin_guard hold(lock);
  pool_push(std::exchange(sorter.kept, nullptr));
  pool_unneeded++; // so the next sort takes this chain together with the others: else no page fills
  sorter.kept_n = 0;
}

static void keep_rest() noexcept {
  spin_guard hold(lock);
  while (G* g = sorter.kept) {
    sorter.kept = g->link;
    g->link = loose;
    loose = g;
  }
}

// Finds the next run of full pages in one slab, and clears the counts of pages that are not full. Returns false if
// there is none left.
static bool full_run(std::size_t& first, std::size_t& n) noexcept {
  spin_guard hold(lock);
  std::size_t end = page_of(carved.load(std::memory_order_relaxed) + page_bytes - 1); // the last may be carved in part
  for (std::size_t& i = sorter.page; i < end; i++) {
    if (pages[i] == per_page) {
      std::size_t slab_end = std::min(end, (i * page_bytes / slab_bytes + 1) * (slab_bytes / page_bytes));
      for (first = i, n = 0; i < slab_end && pages[i] == per_page; i++) n++;
      count_gaps(first, static_cast<int>(n)); // before the pages are dropped
      return true;
    }
    if (pages[i] != empty) pages[i] = 0;
  }
  sorter.ended.fetch_add(1, std::memory_order_relaxed);
  sorter.on.store(false, std::memory_order_release); // [SLAB-2] pairs with sorted(), which then reads `ended`
  return false;
}

bool slab_sorting() noexcept { return sorter.on.load(std::memory_order_relaxed); }

// Calls f for some of the slots taken; a step must be short. Returns true after the last one.
template <class F> static bool for_some_taken(F f) noexcept {
  for (int i = 0; i < 4096; i++) {
    G* g = next_taken();
    if (!g) return true;
    f(g);
  }
  return false;
}

bool slab_sort(std::uint64_t& dropped) noexcept {
  switch (sorter.stage) {
  case sorter.counting:
    if (for_some_taken([](G* g) { pages[page_of(g)]++; })) {
      start_over();
      sorter.stage = sorter.keeping;
    }
    return true;
  case sorter.keeping:
    if (for_some_taken([](G* g) {
          if (pages[page_of(g)] != per_page) keep_slot(g);
        })) {
      keep_rest();
      sorter.stage = sorter.dropping;
    }
    return true;
  case sorter.dropping:
    for (int i = 0; i < 64; i++) {
      std::size_t first, n;
      if (!full_run(first, n)) return false;
      bool gone = madvise(base + first * page_bytes, n * page_bytes, MADV_DONTNEED) == 0;
      if (!gone) std::memset(base + first * page_bytes, 0, n * page_bytes); // callers of carve expect zeros
      spin_guard hold(lock);
      std::fill_n(pages + first, n, empty);
      empty_n += n;
      empty_from = std::min(empty_from, first);
      if (gone) dropped += n;
    }
    return true;
  }
  return false;
}

} // namespace grt
