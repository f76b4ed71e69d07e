// tools/mutexwatch/mutexwatch.cpp - libgrt_mutexwatch.so: which pthread locks a thread of the runtime holds, and who
// locked them. LD_PRELOAD=libgrt_mutexwatch.so ./program; docs/debugging.md shows what the program then says.
//
// It stands in front of libc for pthread_mutex_* and pthread_rwlock_*, so it sees std::mutex and std::shared_mutex, and
// keeps a list for each thread. It judges nothing: the runtime in the program (debug/mutexwatch.cpp) takes the list
// whenever a goroutine gives its thread away, and what is on it then is held across a wait. So the list is empty
// whenever another goroutine begins to run there, and an unlock that finds no entry is of no interest: it was told
// already, or it is the other half of the mistake.
//
//   pthread_cond_*wait    releases and retakes the mutex inside libc, unseen; the thread waits meanwhile and its
//                         goroutine goes nowhere, so the entry is right before and after
//   plain threads         note nothing down: their locks are theirs
//   locks of libc's own   (stdio, malloc, C11 mtx_t) do not come by here
//
// Who locked: the return address alone would be the same function for every std::mutex of a program built with -O0,
// whose wrappers are not inlined, so some frames are unwound; that is nearly all of what a lock costs here (2 us).
// Rejected: frame pointers (-O2 has none, and a register that holds something else may point anywhere).
//
// libc's functions are looked up at their first call: other libraries' constructors lock before ours would run. All
// versions of each are one function in glibc, so dlsym's default is what the program was linked with.
#include <atomic>
#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <pthread.h>
#include <unwind.h>

#include <grt/detail/held_lock.hpp>

namespace {
using grt::detail::held_lock;

struct list {
  bool followed, busy; // busy: unwinding, which may lock
  unsigned n;
  held_lock of[held_lock::most]; // in the order of locking; more than fit are not noted down
};
constinit thread_local list mine __attribute__((tls_model("initial-exec"))) = {}; // no call, no malloc

struct trail {
  held_lock* lock;
  void* caller;
  unsigned n;
};
_Unwind_Reason_Code step(_Unwind_Context* frame, void* arg) noexcept {
  auto* t = static_cast<trail*>(arg);
  auto* pc = reinterpret_cast<void*>(_Unwind_GetIP(frame));
  if (t->n || pc == t->caller) t->lock->frames[t->n++] = pc; // the frames before are ours
  return pc && t->n < held_lock::depth ? _URC_NO_REASON : _URC_END_OF_STACK;
}

__attribute__((noinline)) void locked(const void* lock, const char* kind, void* caller) noexcept {
  if (!mine.followed || mine.busy || mine.n == held_lock::most) return;
  mine.busy = true;
  held_lock& h = mine.of[mine.n];
  h = {lock, kind, {}};
  trail t{&h, caller, 0};
  _Unwind_Backtrace(step, &t);
  if (!t.n) h.frames[0] = caller; // no unwind tables
  mine.n++;
  mine.busy = false;
}

void unlocked(const void* lock) noexcept {
  for (unsigned i = mine.n; i--;) {
    if (mine.of[i].lock != lock) continue;
    std::memmove(&mine.of[i], &mine.of[i + 1], (--mine.n - i) * sizeof *mine.of);
    return;
  }
}

template <class F> F* real(std::atomic<F*>& known, const char* name) noexcept {
  F* f = known.load(std::memory_order_relaxed);
  if (!f) known.store(f = reinterpret_cast<F*>(dlsym(RTLD_NEXT, name)), std::memory_order_relaxed);
  return f;
}
} // namespace

#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

extern "C" {
unsigned grt::detail::grt_mutexwatch_1(held_lock* out) noexcept {
  unsigned n = 0;
  if (!out) mine.followed = true;
  else std::memcpy(out, mine.of, (n = mine.n) * sizeof *out);
  mine.n = 0;
  return n;
}

#define LOCKS(name, kind, type, more, args)                                                                            \
  int name(type* lock more) noexcept {                                                                                 \
    static std::atomic<int (*)(type * lock more)> known;                                                               \
    auto* f = real(known, #name);                                                                                      \
    if (!f) return ENOSYS;                                                                                             \
    int error = f args;                                                                                                \
    if (!error || error == EOWNERDEAD) locked(lock, kind, CALLER);                                                     \
    return error;                                                                                                      \
  }
#define UNLOCKS(name, type)                                                                                            \
  int name(type* lock) noexcept {                                                                                      \
    static std::atomic<int (*)(type*)> known;                                                                          \
    unlocked(lock);                                                                                                    \
    return real(known, #name)(lock);                                                                                   \
  }
#define COMMA ,
#define UNTIL COMMA const timespec* until
#define CLOCK COMMA clockid_t clock COMMA const timespec* until

LOCKS(pthread_mutex_lock, "mutex", pthread_mutex_t, , (lock))
LOCKS(pthread_mutex_trylock, "mutex", pthread_mutex_t, , (lock))
LOCKS(pthread_mutex_timedlock, "mutex", pthread_mutex_t, UNTIL, (lock, until))
LOCKS(pthread_mutex_clocklock, "mutex", pthread_mutex_t, CLOCK, (lock, clock, until))
UNLOCKS(pthread_mutex_unlock, pthread_mutex_t)
LOCKS(pthread_rwlock_rdlock, "rwlock", pthread_rwlock_t, , (lock))
LOCKS(pthread_rwlock_wrlock, "rwlock", pthread_rwlock_t, , (lock))
LOCKS(pthread_rwlock_tryrdlock, "rwlock", pthread_rwlock_t, , (lock))
LOCKS(pthread_rwlock_trywrlock, "rwlock", pthread_rwlock_t, , (lock))
LOCKS(pthread_rwlock_timedrdlock, "rwlock", pthread_rwlock_t, UNTIL, (lock, until))
LOCKS(pthread_rwlock_timedwrlock, "rwlock", pthread_rwlock_t, UNTIL, (lock, until))
LOCKS(pthread_rwlock_clockrdlock, "rwlock", pthread_rwlock_t, CLOCK, (lock, clock, until))
LOCKS(pthread_rwlock_clockwrlock, "rwlock", pthread_rwlock_t, CLOCK, (lock, clock, until))
UNLOCKS(pthread_rwlock_unlock, pthread_rwlock_t)
}
