// stack/reclaim.cpp - see reclaim.hpp.
//
// Free windows. A P gives what it holds to the pool when it goes to sleep, and half of it at its first look around in a
// pass. Of the pool, those lose their pages that nobody has taken since the last pass began (arena::low), oldest first,
// in place: they stay in the pool, but nobody may take the 64 that are in work. The newest few keep their top page.
//
// Deep windows. PAGEMAP_SCAN (Linux 6.7) walks page tables and reports runs of pages in memory: 0.04 us a window, and a
// bit is set for each that has more than its two upper pages. Where it is missing, every window counts as deep and
// drop() looks at the 16 pages below with mincore first: a stack that has only ever jumped over those is missed.
//
// What is never dropped: guards (a poisoned page would become an ordinary one), and the page a canary stands in.
// Memory the program has locked stays where it is: MADV_DONTNEED answers EINVAL.
#include "stack/reclaim.hpp"

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
bool scan_works = true; // until it does not

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

// One run of pages in memory: marks the windows that reach below their two upper pages.
void mark(arena& a, std::uint64_t start, std::uint64_t end) noexcept {
  std::uint64_t base = number(a.base);
  for (std::size_t i = (start - base) / a.stride; base + i * a.stride < end; i++) {
    std::uint64_t from = std::max<std::uint64_t>(start, number(lowest(a, i)));
    if (from < std::min<std::uint64_t>(end, number(a.window(i + 1)) - 2 * page))
      a.deep[i / 64] |= std::uint64_t{1} << (i % 64);
  }
}

// false: the kernel cannot.
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

// Of an emulator: it may say yes and find nothing.
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
} // namespace

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
    a.at = a.cold;
    a.end = all ? a.pooled : a.low;
    a.low = a.pooled;
    a.looked = 0;
  }
}

bool drop_free(std::uint64_t& dropped) noexcept {
  for (arena& a : arenas) {
    char* tops[clean_most];
    std::size_t n = 0, bare = 0; // the first `bare` keep nothing
    {
      spin_guard hold(lock);
      a.at = std::min(a.at, a.pooled);
      std::size_t end = std::min(a.end, a.pooled), old = a.pooled - std::min(newest_kept, a.pooled);
      if (a.at >= end) continue;
      n = std::min(clean_most, end - a.at);
      bare = std::min(n, old - std::min(old, a.at));
      copy(tops, a.pool + a.at, n);
      a.cleaning = a.at + n;
    }
    for (std::size_t k = 0; k < n; k++) {
      std::size_t i = a.index(tops[k]);
      char *from = lowest(a, i), *to = a.window(i + 1) - (k < bare ? 0 : page);
      madvise(from, static_cast<std::size_t>(to - from), MADV_DONTNEED);
    }
    spin_guard hold(lock);
    if (a.cold == a.at) a.cold += bare, dropped += bare; // nobody took any below them
    a.at += n;
    a.cleaning = 0;
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
    if (!a.deep) { // windows beyond `looked` count as deep, so that is all it takes where there is no memory
      void* p = mmap(nullptr, a.capacity / 8 + 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                     -1, 0);
      if (p == MAP_FAILED) continue;
      a.deep = static_cast<std::uint64_t*>(p);
    }
    int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false; // none left; next time
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
