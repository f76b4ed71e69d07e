// stack/reclaim.cpp - see reclaim.hpp.
//
// Free windows. A P moves all windows of its cache to the pool before it goes to sleep, and half of them the first time
// it searches for work after a pass has begun. Windows in the pool that have not been used since the previous pass
// began (those below arena::low) lose their pages, oldest first. They are then `cold`. The newest few (newest_kept)
// stay in the pool with their top page. While the reclaimer works on windows it holds them, and nobody else finds them.
// A goroutine with a credit still finds another window, because held_most windows are part of the slack.
//
// Page tables. They take 0.6 KB per window and outlive its pages. x86-64 kernels since 6.14 free a page table that
// MADV_DONTNEED finds empty, if the advice covers all of its 2 MB. A guard counts as an entry, so the guards of 64 cold
// windows are removed as well. When the first of the 64 is taken they are made again, in one call as for new windows
// (45 us). A page table that two words of windows share is freed with the second of them; both words are held then.
//
// Deep windows. A window is deep if it has more than its two upper pages in memory. PAGEMAP_SCAN (Linux 6.7) walks the
// page tables and reports runs of pages in memory, which takes 0.04 us per window; find_deep() sets a bit for each deep
// one. Without PAGEMAP_SCAN every window counts as deep, and drop() first examines the upper 16 pages of its range with
// mincore. It misses a stack that has only ever jumped over those 16 pages.
//
// Never dropped: guards of other kinds (a poisoned page would become an ordinary one), and the page that holds a
// canary. Memory that the program has locked stays, because MADV_DONTNEED returns EINVAL for it.
#include "stack/reclaim.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.hpp"
#include "stack/arena.hpp"

namespace grt::stack {

std::atomic<std::uint32_t> passes{0};

namespace {
constexpr std::size_t newest_kept = 32, red_zone = 128, windows_a_look = 512;
constexpr std::size_t cold_kept = 1024; // page tables of fewer cold windows are not worth making the guards again
bool scan_works = true;                 // false once PAGEMAP_SCAN has failed

// include/uapi/linux/fs.h
struct page_region {
  std::uint64_t start, end, categories;
};
struct pm_scan_arg {
  std::uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask,
      category_anyof_mask, return_mask;
};
constexpr unsigned long pagemap_scan = _IOWR('f', 16, pm_scan_arg);
constexpr std::uint64_t page_is_present = 1 << 3;

char* lowest(const arena& a, std::size_t i) { return a.window(i) + guard_bytes + (a.canary(i) ? page : 0); }
std::uintptr_t number(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

// The pages from `start` to `end` are in memory: marks the windows of which some of them lie below the two upper pages.
void mark(arena& a, std::uint64_t start, std::uint64_t end) noexcept {
  std::uint64_t base = number(a.base);
  for (std::size_t i = (start - base) / a.stride; base + i * a.stride < end; i++) {
    std::uint64_t from = std::max<std::uint64_t>(start, number(lowest(a, i)));
    if (from < std::min<std::uint64_t>(end, number(a.window(i + 1)) - 2 * page))
      a.deep[i / 64] |= std::uint64_t{1} << (i % 64);
  }
}

// Marks the deep windows among `n` from `first` on. Returns false if the kernel cannot tell.
bool look_at(arena& a, int fd, std::size_t first, std::size_t n) noexcept {
  static page_region found[512];
  for (std::size_t i = first / 64; i <= (first + n - 1) / 64; i++) a.deep[i] = 0;
  std::uint64_t at = number(a.window(first)), end = number(a.window(first + n));
  while (at < end) {
    pm_scan_arg arg{};
    arg.size = sizeof arg;
    arg.start = at;
    arg.end = end;
    arg.vec = number(found);
    arg.vec_len = sizeof found / sizeof *found;
    arg.category_anyof_mask = arg.return_mask = page_is_present;
    int got = ioctl(fd, pagemap_scan, &arg);
    if (got < 0) return false;
    for (int k = 0; k < got; k++) mark(a, found[k].start, found[k].end);
    if (arg.walk_end <= at) return false;
    at = arg.walk_end;
  }
  return true;
}

// An emulator may accept PAGEMAP_SCAN and find nothing. So this scans a page that is certainly in memory.
bool scan_is_true(int fd) noexcept {
  static page_region found;
  char here = 1;
  pm_scan_arg arg{};
  arg.size = sizeof arg;
  arg.start = number(&here) / page * page;
  arg.end = arg.start + page;
  arg.vec = number(&found);
  arg.vec_len = 1;
  arg.category_anyof_mask = arg.return_mask = page_is_present;
  return ioctl(fd, pagemap_scan, &arg) == 1 && found.start == arg.start;
}
// Returns the size of the process's page tables, or -1 if it cannot be read.
long page_tables_kb() noexcept {
  char text[4096];
  int fd = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[std::max<ssize_t>(n, 0)] = 0;
  const char* at = std::strstr(text, "VmPTE:");
  return at ? std::strtol(at + 6, nullptr, 10) : -1;
}

// Finds out by effect whether the kernel frees empty page tables: fills sixteen tables with one page each, drops the
// pages and returns whether the tables are gone. Tables that other threads need meanwhile may hide that they are.
bool see_tables_go() noexcept {
  constexpr std::size_t n = 16, covers = 2 << 20;
  void* p = mmap(nullptr, (n + 1) * covers, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  munlock(p, (n + 1) * covers); // as when windows are opened
  bool go = false;
  if (mprotect(p, (n + 1) * covers, PROT_READ | PROT_WRITE) == 0) {
    madvise(p, (n + 1) * covers, MADV_NOHUGEPAGE);
    char* first = static_cast<char*>(p) + (covers - number(p) % covers);
    for (std::size_t i = 0; i < n; i++) *const_cast<volatile char*>(first + i * covers) = 1;
    long before = page_tables_kb();
    madvise(first, n * covers, MADV_DONTNEED);
    go = before - page_tables_kb() >= static_cast<long>(n / 2 * page / 1024);
  }
  munmap(p, (n + 1) * covers);
  return go;
}
} // namespace

bool tables_go() noexcept {
  static std::atomic<int> tries{8}; // attempts left; -1: one has shown that tables are freed
  int left = tries.load(std::memory_order_relaxed);
  if (left > 0) tries.store(left = see_tables_go() ? -1 : left - 1, std::memory_order_relaxed);
  return left < 0;
}

void give_back_half(cache& c) noexcept {
  c.pass = passes.load(std::memory_order_relaxed);
  if (c.n > 1) give_oldest(c, c.n / 2);
}
void give_back(cache& c) noexcept {
  if (c.n) give_oldest(c, c.n);
}

void reclaim_begin(bool all) noexcept {
  passes.fetch_add(1, std::memory_order_relaxed);
  spin_guard hold(lock);
  for (arena& a : arenas) {
    a.left = all ? a.pooled() : a.low - std::min(a.low, a.bottom);
    a.low = a.top;
    a.looked = a.at_word = 0;
  }
}

bool drop_free(std::uint64_t& dropped) noexcept {
  for (arena& a : arenas) {
    char* tops[per_word];
    std::size_t n, old; // old: how many in the pool are not among the newest few, and lose all their pages
    {
      spin_guard hold(lock);
      old = a.pooled() - std::min(newest_kept, a.pooled());
      a.left = std::min(a.left, a.low - std::min(a.low, a.bottom)); // some may have been used meanwhile
      if (!a.left) continue;
      n = a.held = std::min({per_word, a.left, old ? old : a.left});
      copy(tops, a.pool + a.bottom, n);
      a.bottom += n;
      a.left = old ? a.left - n : 0;
    }
    for (std::size_t k = 0; k < n; k++) {
      std::size_t i = a.index(tops[k]);
      char *from = lowest(a, i), *to = a.window(i + 1) - (old ? 0 : page);
      madvise(from, static_cast<std::size_t>(to - from), MADV_DONTNEED);
    }
    spin_guard hold(lock);
    a.held = 0;
    if (!old) {
      if (a.bottom < n) {
        a.put(tops, n);
      } else {
        a.bottom -= n;
        copy(a.pool + a.bottom, tops, n);
      }
      return true;
    }
    for (std::size_t k = 0; k < n; k++) {
      std::size_t i = a.index(tops[k]);
      a.cold[i / per_word] |= std::uint64_t{1} << (i % per_word);
      a.cold_from = std::min(a.cold_from, i / per_word);
    }
    a.cold_n += n;
    dropped += n;
    return true;
  }
  return false;
}

bool drop_lists() noexcept {
  constexpr std::size_t in_page = page / sizeof(char*), piece = 16 * in_page;
  for (arena& a : arenas) {
    spin_guard hold(lock);
    if (a.used_to <= piece) continue;
    if (a.pooled() <= piece || a.pooled() < a.bottom / 4) a.slide();
    if (a.used_to <= a.top + piece) continue;
    std::size_t end = a.used_to / in_page * in_page; // another list may begin in that page
    a.used_to = std::max((a.used_to - 1) / piece * piece, (a.top / piece + 1) * piece);
    madvise(a.pool + a.used_to, (end - a.used_to) * sizeof(char*), MADV_DONTNEED);
    return true;
  }
  return false;
}

// Lock held. Moves at_word to the next word whose 64 windows may become bare. Returns false if there is none.
static bool next_word(arena& a) noexcept {
  std::size_t end = a.cold_n < cold_kept ? 0 : a.carved / per_word;
  while (a.at_word < end && !(a.cold[a.at_word] == full_word && a.guards[a.at_word] == guarding::madvise)) a.at_word++;
  return a.at_word < end;
}

bool drop_tables() noexcept {
  if (guards() != guard_kind::madvise) return false;
  for (arena& a : arenas) {
    {
      spin_guard hold(lock);
      if (!next_word(a)) continue;
    }
    if (!tables_go()) return false;
    std::size_t w, first, last; // [first, last]: word w, and its neighbours if those are bare
    {
      spin_guard hold(lock);
      if (!next_word(a)) continue;
      w = first = last = a.at_word++;
      auto bare = [&a](std::size_t i) { return a.cold[i] == full_word && a.guards[i] == guarding::bare; };
      if (w && bare(w - 1)) first--;
      if (bare(w + 1)) last++;
      for (std::size_t i = first; i <= last; i++) a.set_cold(i, 0);
      a.cold_n -= a.held = (last + 1 - first) * per_word;
    }
    char *at = a.window(w * per_word), *from = a.window(first * per_word), *to = a.window((last + 1) * per_word);
    std::size_t bytes = per_word * a.stride;
    bool locked = madvise(at, bytes, MADV_DONTNEED); // EINVAL: by the program
    if (!locked) {
      guards_remove(at, bytes);
      madvise(from, static_cast<std::size_t>(to - from), MADV_DONTNEED);
    }
    spin_guard hold(lock);
    for (std::size_t i = first; i <= last; i++) a.set_cold(i, full_word);
    a.cold_n += std::exchange(a.held, 0);
    a.cold_from = std::min(a.cold_from, first);
    a.set_guards(w, locked ? guarding::other : guarding::bare);
    return true;
  }
  return false;
}

bool find_deep() noexcept {
  if (!scan_works) return false;
  for (arena& a : arenas) {
    std::size_t n;
    {
      spin_guard hold(lock);
      n = a.carved;
    }
    if (a.looked >= n) continue;
    if (!a.deep) { // without memory for it, `looked` stays 0, and then every window counts as deep
      void* p = mmap(nullptr, a.capacity / 8 + 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1, 0);
      if (p == MAP_FAILED) continue;
      a.deep = static_cast<std::uint64_t*>(p);
    }
    int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false; // no descriptor left; the next pass tries again
    n = std::min(windows_a_look, n - a.looked);
    scan_works = scan_is_true(fd) && look_at(a, fd, a.looked, n);
    close(fd);
    a.looked = scan_works ? a.looked + n : 0;
    return scan_works;
  }
  return false;
}

bool deep(const char* top) noexcept {
  const arena* a = arena_of(top);
  if (!a) return false;
  std::size_t i = a->index(top);
  return i >= a->looked || (a->deep[i / 64] >> (i % 64) & 1);
}

bool below(const char* top, const char* sp, span& out) noexcept {
  const arena* a = arena_of(top);
  if (!a || sp >= top || sp < a->window(a->index(top))) return false;
  out.low = lowest(*a, a->index(top));
  out.high = a->window(0) +
             ((sp - red_zone - a->base) / static_cast<std::ptrdiff_t>(page) - 1) * static_cast<std::ptrdiff_t>(page);
  return out.low < out.high;
}

bool drop(const span& s) noexcept {
  std::size_t n = static_cast<std::size_t>(s.high - s.low), looked = std::min(n, 16 * page);
  if (!scan_works) {
    unsigned char in[16] = {};
    if (mincore(s.high - looked, looked, in) == 0 && std::none_of(in, in + 16, [](unsigned char c) { return c & 1; }))
      return false;
  }
  return madvise(s.low, n, MADV_DONTNEED) == 0;
}

} // namespace grt::stack
