// stack/windows.cpp - arenas, chunks and the pool. See windows.hpp and arena.hpp.
#include "stack/windows.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.hpp"
#include "base/san.hpp"
#include "stack/arena.hpp"

namespace grt::stack {

arena arenas[classes];
// System calls run under this lock. A P that needs windows meanwhile spins, then gives its core away (base/spin.cpp).
// The time under the lock is bounded. At most 64 guards are made, by one call with madvise and by 64 calls with
// mprotect or poison. Opening a chunk takes four calls and happens once per some 200 windows. A P takes the lock once
// for up to 128 windows, and not at all while its cache has windows that were used before.
// Rejected: making guards outside the lock. The scavenger, next_kind and the count of mappings would have to know of
// windows that are carved but not yet guarded.
spin_lock lock;
int pidfd = -1;

namespace {
constexpr int madv_populate_write = 23; // Linux 5.14; not in older headers
constexpr std::size_t chunk_bytes = 64 << 20, canary_words = 8;
// Reserved below an arena. A frame that jumps over the guard of the lowest window, or an overflow without a guard, must
// not reach what the kernel has mapped there: thread stacks, the runtime's own memory.
constexpr std::size_t spare_below = stack_max_most;
constexpr std::uint64_t canary_value = 0x9e3779b97f4a7c15; // 2^64 / golden ratio: not written by chance

std::size_t default_class = 2, credits, slack;
std::uint32_t batch = 128;
bool emulated = false; // by Valgrind
std::size_t most = 0;  // bytes reserved for the default class; at most a quarter of it for each other class

void* map(std::size_t bytes, int prot) {
  return mmap(nullptr, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

// Returns how many bytes of address space may be reserved at once. A huge reservation hurts in an emulator, which keeps
// tables for it. qemu-user is recognized by an advice that no kernel knows: a kernel returns EINVAL, qemu-user 0.
std::size_t reserve_limit() {
  if (GRT_TSAN) return std::size_t{1} << 40;
  if ((emulated = san::on_valgrind())) return std::size_t{16} << 30;
  char* p = static_cast<char*>(map(page, PROT_NONE));
  if (p == MAP_FAILED) return 0;
  bool lies = madvise(p, page, 0x7ffff) == 0;
  munmap(p, page);
  std::size_t bytes = std::size_t{lies ? 8u : 4096u} << 30;
  rlimit space; // a quarter of it; the rest is for the program and for the threads
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur / 4 < bytes) bytes = space.rlim_cur / 4 / page * page;
  return bytes;
}

bool reserve(arena& a, std::size_t usable, std::size_t bytes) {
  a.stride = usable + guard_bytes + page;
  a.usable = usable;
  void* p = MAP_FAILED;
  for (; bytes >= chunk_bytes && (p = map(bytes, PROT_NONE)) == MAP_FAILED;) bytes /= 2;
  if (p == MAP_FAILED) return false;
  char* base = static_cast<char*>(p) + spare_below;
  a.capacity = (bytes - spare_below) / a.stride;
  std::size_t words = a.capacity / per_word + 1;
  void* lists = map(words * (per_word * sizeof(char*) + 2 * sizeof(std::uint64_t) + 1), PROT_READ | PROT_WRITE);
  if (lists == MAP_FAILED) {
    munmap(p, bytes);
    return false;
  }
  a.pool = static_cast<char**>(lists);
  a.cold = reinterpret_cast<std::uint64_t*>(a.pool + words * per_word);
  a.canaries = reinterpret_cast<std::atomic<std::uint64_t>*>(a.cold + words);
  a.guards = reinterpret_cast<guarding*>(a.canaries + words);
  __atomic_store_n(&a.base, base, __ATOMIC_RELEASE); // [ARENA-1] arena_of() may use it
  return true;
}

// Lock held. Opens chunks until at least `windows` windows are open.
bool open(arena& a, std::size_t windows) {
  while (a.opened < windows) {
    std::size_t n = std::max<std::size_t>(chunk_bytes / a.stride, 1);
    if (a.opened + n > a.capacity) n = a.capacity - a.opened;
    if (!n) return false;
    char* p = a.base + a.opened * a.stride;
    munlock(p, n * a.stride);
    if (mprotect(p, n * a.stride, PROT_READ | PROT_WRITE)) return false;
    madvise(p, n * a.stride, MADV_NOHUGEPAGE);
    guards_adopt(p, n * a.stride);
    san::root_region(p, n * a.stride);
    a.opened += n;
  }
  return true;
}

void write_canary(char* low) {
  for (std::size_t i = 0; i < canary_words; i++) reinterpret_cast<std::uint64_t*>(low)[i] = canary_value;
}

// Lock held. Makes guards, or canaries instead, for the n windows from `first` on.
void guard(arena& a, std::size_t first, std::size_t n) {
  char* p = a.base + first * a.stride;
  std::size_t done = guards_make(p, a.stride, n);
  if (guards() != guard_kind::madvise)
    for (std::size_t w = first / per_word; w <= (first + n - 1) / per_word; w++) a.set_guards(w, guarding::other);
  for (; done < n; done++) {
    write_canary(p + done * a.stride + guard_bytes);
    a.canaries[(first + done) / per_word].fetch_or(std::uint64_t{1} << ((first + done) % per_word),
                                                   std::memory_order_relaxed);
  }
}

// Lock held. Makes n new windows, at most 64, from memory that is open already. Returns their tops.
void carve(arena& a, std::size_t n, char** tops) {
  guard(a, a.carved, n);
  iovec v[64];
  for (std::size_t i = 0; i < n; i++) {
    tops[n - 1 - i] = a.top_of(a.carved + i);
    if (emulated) san::register_stack(a.window(a.carved + i) + guard_bytes, a.window(a.carved + i + 1));
    v[i] = {a.base + (a.carved + i + 1) * a.stride - page, page};
  }
  a.carved += n;
  if (n > 1 && pidfd >= 0)
    syscall(SYS_process_madvise, pidfd, v, n, madv_populate_write,
            0); // one call instead of n page faults; on a kernel that lacks it the faults come later
}

// Lock held. Takes at most n cold windows, the lowest ones. Makes the guards of at most one word again.
std::size_t warm(arena& a, char** tops, std::size_t n) {
  std::size_t got = 0;
  while (got < n && a.cold_n) {
    while (!a.cold[a.cold_from]) a.cold_from++;
    std::size_t w = a.cold_from;
    if (a.guards[w] == guarding::bare) {
      if (got) break;
      a.set_guards(w, guarding::madvise);
      guard(a, w * per_word, per_word);
    }
    for (std::uint64_t& bits = a.cold[w]; bits && got < n; bits &= bits - 1, a.cold_n--)
      tops[got++] = a.top_of(w * per_word + static_cast<std::size_t>(__builtin_ctzll(bits)));
  }
  return got;
}
std::size_t take_free(arena& a, char** tops, std::size_t n) {
  std::size_t got = a.take(tops, n);
  return got ? got : warm(a, tops, n);
}

std::size_t class_of(std::size_t bytes) {
  std::size_t c = 0;
  while ((stack_max_least << c) < bytes) c++;
  return c;
}
} // namespace

std::size_t round_stack_max(std::size_t bytes) {
  if (!bytes) return arenas[default_class].usable;
  if (bytes < stack_max_least || bytes > stack_max_most)
    throw std::invalid_argument("grt: stack_max " + std::to_string(bytes) +
                                " is out of range: 65536 (64K) to 8388608 (8M) bytes");
  return stack_max_least << class_of(bytes);
}

void start(const config& c) {
  if (arenas[default_class].base) return;
  default_class = class_of(round_stack_max(c.stack_max ? c.stack_max : 256 << 10));
  most = reserve_limit();
  if (!emulated)
    pidfd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)); // Valgrind does not know the calls that use it
  if (pidfd >= 0) fcntl(pidfd, F_SETFD, FD_CLOEXEC);
  guards_start(c.guard, c.mprotect_budget, pidfd);
  if (!reserve(arenas[default_class], stack_max_least << default_class, most))
    throw std::system_error(ENOMEM, std::generic_category(), "grt: no address space for stacks");
  batch = static_cast<std::uint32_t>(std::clamp<std::size_t>(arenas[default_class].capacity / 4 / 2048, 8, 128));
}

std::uint32_t batch_most() noexcept { return batch; }

bool take_credits(std::size_t n) noexcept {
  spin_guard hold(lock);
  if (!open(arenas[default_class], credits + n + slack)) return false;
  credits += n;
  return true;
}

void set_slack(unsigned procs) noexcept {
  spin_guard hold(lock);
  slack = std::max(slack, std::size_t{procs} * 2 * batch + 4 * batch + held_most);
}

char* refill(cache& c) noexcept {
  spin_guard hold(lock);
  arena& a = arenas[default_class];
  if (std::size_t free = take_free(a, c.top, batch)) {
    c.n = static_cast<std::uint32_t>(free);
  } else {
    std::size_t n = std::min<std::size_t>(c.batch, a.opened - a.carved);
    GRT_CHECK(n, "a goroutine without a window credit");
    if (c.batch < 64 && c.batch < batch) c.batch *= 2;
    carve(a, n, c.top);
    c.n = static_cast<std::uint32_t>(n);
  }
  return c.top[--c.n];
}

void spill(cache& c) noexcept {
  if (!c.limit) { // the first put into this cache
    c.limit = 2 * batch;
    if (c.n < c.limit) return;
  }
  give_oldest(c, batch);
}

void give_oldest(cache& c, std::uint32_t n) noexcept {
  spin_guard hold(lock);
  arenas[default_class].put(c.top, n);
  copy(c.top, c.top + n, c.n -= n);
}

char* get_sized(std::size_t stack_max) noexcept {
  std::size_t c = class_of(stack_max);
  arena& a = arenas[c];
  char* top;
  for (;; sched_yield()) {
    spin_guard hold(lock);
    if (!a.base && !reserve(a, stack_max, std::min(most / 4, std::size_t{256} << 30))) return nullptr;
    if (take_free(a, &top, 1)) return top;
    std::size_t held_back = c == default_class ? credits + slack : 0;
    if (open(a, std::max(a.carved, held_back) + 1)) {
      if (c == default_class) credits++; // never given back: the window later goes to the common pool
      carve(a, 1, &top);
      return top;
    }
    if (!a.held) return nullptr; // the reclaimer gives back in a moment what it holds
  }
}

void put_sized(char* top) noexcept {
  if (arena* a = arena_of(top)) {
    spin_guard hold(lock);
    a->put(&top, 1);
  }
}

arena* arena_of(const void* address) noexcept {
  for (arena& a : arenas) {
    char* base = __atomic_load_n(&a.base, __ATOMIC_ACQUIRE); // [ARENA-1]
    const char* p = static_cast<const char*>(address);
    if (base && p >= base && p < base + a.capacity * a.stride) return &a;
  }
  return nullptr;
}

bool find(const void* address, bounds& out) noexcept {
  const arena* a = arena_of(address);
  if (!a) return false;
  char* w = a->window(a->index(static_cast<const char*>(address)));
  out = {w, w + guard_bytes, w + a->stride, a->usable};
  return true;
}

bool find_guard(const void* address, bounds& out) noexcept {
  const arena* a = arena_of(address);
  if (!a || !find(address, out) || address >= out.low) return false;
  std::size_t i = a->index(out.guard);
  return i < __atomic_load_n(&a->carved, __ATOMIC_RELAXED) && !a->canary(i);
}

namespace {
char* low_of(const arena& a, std::size_t i) noexcept { return a.window(i) + guard_bytes; }

// Other threads may be writing there, so each word is read once, and no sanitizer sees the reads.
__attribute__((no_sanitize("address", "thread"))) bool all_are(const char* from, std::size_t bytes,
                                                               std::uint64_t value) noexcept {
  auto* words = reinterpret_cast<const volatile std::uint64_t*>(from);
  for (std::size_t i = 0; i < bytes / sizeof value; i++)
    if (words[i] != value) return false;
  return true;
}
bool broken(const arena& a, std::size_t i) noexcept {
  return a.canary(i) && !all_are(low_of(a, i), canary_words * sizeof canary_value, canary_value);
}
// Only an overflow writes below a canary. That a page is in memory proves nothing, because mlockall fills pages; so the
// contents are compared with zero.
bool written_below(const arena& a, std::size_t i) noexcept {
  unsigned char in_memory[guard_bytes / page];
  if (!a.canary(i) || mincore(a.window(i), guard_bytes, in_memory)) return false;
  for (std::size_t k = 0; k < guard_bytes / page; k++)
    if ((in_memory[k] & 1) && !all_are(a.window(i) + k * page, page, 0)) return true;
  return false;
}
} // namespace

bool unguarded(const char* top) noexcept {
  const arena* a = arena_of(top);
  return a && a->canary(a->index(top));
}

bool canary_intact(const char* top) noexcept {
  const arena* a = arena_of(top);
  return !a || !broken(*a, a->index(top));
}

bool ran_over(const char* top) noexcept {
  const arena* a = arena_of(top);
  return a && (broken(*a, a->index(top)) || written_below(*a, a->index(top)));
}

char* overrun_above(const char* top) noexcept {
  const arena* a = arena_of(top);
  if (!a) return nullptr;
  std::size_t i = a->index(top);
  bool own = broken(*a, i);
  if (i + 1 < a->capacity && broken(*a, i + 1)) i++;
  else if (!own) return nullptr;
  while (i + 1 < a->capacity && broken(*a, i + 1)) i++;
  return a->top_of(i);
}

char* find_overrun() noexcept {
  for (const arena& a : arenas) {
    if (!__atomic_load_n(&a.base, __ATOMIC_ACQUIRE)) continue; // [ARENA-1]
    for (std::size_t i = __atomic_load_n(&a.carved, __ATOMIC_RELAXED); i-- > 0;)
      if (broken(a, i) || written_below(a, i)) return a.top_of(i);
  }
  return nullptr;
}

counts read_counts() noexcept { return {arenas[default_class].carved, credits}; }

std::size_t resident_bytes() noexcept {
  static unsigned char pages[16384]; // one mincore call covers 64 MB
  static spin_lock looking;
  spin_guard one(looking);
  std::size_t resident = 0;
  for (arena& a : arenas) {
    std::size_t n;
    {
      spin_guard hold(lock);
      n = a.carved * a.stride;
    }
    for (std::size_t at = 0; at < n; at += sizeof pages * page) {
      std::size_t count = std::min(sizeof pages, (n - at) / page);
      if (mincore(a.base + at, count * page, pages)) continue;
      for (std::size_t i = 0; i < count; i++) resident += pages[i] & 1;
    }
  }
  return resident * page;
}

std::size_t most_reserved() noexcept { return most; }

} // namespace grt::stack
