// tests/model/machine.hpp - a small machine on which the templates of sched/protocol/ run through all
// interleavings.
//
// A thread's program is ordinary C++ over the policy `modelled`. It is a function of the results of its operations, so
// the machine runs it again from the start with the results so far and stops it, by an exception, at the next
// operation; what comes after which results is kept in a tree, and a thread's whole local state is its place in that
// tree. So states are few bytes, breadth-first search visits each once, and a failure comes with a shortest trace.
// Rejected: fibers with replay (sanitizers must be told, every schedule pays for its whole length); a model in a
// language of its own (it checks what somebody thought the code does).
//
// Two memories:
//   tso    each thread has a FIFO of stores (x86); atomic read-modify-writes, futex calls and membarrier drain it
//   weak   each location keeps its stores; a load takes any that the thread's view does not exclude, and a store may
//          come before another thread's in the order of the location (AArch64, but for a load that a later store
//          overtakes). A view travels by release and acquire; a plain access that the view does not cover is a race.
//   cpp    weak, for what is meant to run on x86: what the compiler may do to it by the letter of the language
// A plain store may in all of them be moved behind later loads by the compiler, until a compiler barrier: no membarrier
// sees it. membarrier(2) is not one moment: it interrupts one thread after the other, in any order, while all others go
// on.
//
// A loop that waits repeats one load and calls pause(); an iteration that ends in pause() changed nothing and is
// dropped, so a waiting thread is simply one that cannot go on yet, and a state in which nobody can is a deadlock.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sched/protocol/memory.hpp"

namespace model {

using byte = std::uint8_t;
using grt::protocol::site;

enum class memory { tso, weak, cpp };
enum class action : byte {
  load,
  store,
  cas,
  change,
  plain_read,
  plain_write,
  lock,
  try_lock,
  unlock,
  barrier,
  all_barrier,
  full_barrier,
  wait,
  wake,
  pause,
  same,
  choose,
  count,
  claim,
  mark,
  drop,
  fail,
  done
};

struct operation {
  action what = action::done;
  byte loc = 0;
  bool acquire = false, release = false;
  byte x = 0, was = 0; // stored; expected, or (change) what is kept of what was there
  site at{};
  const char* why = ""; // fail

  bool loads() const { return what == action::load || what == action::plain_read; }
};

constexpr unsigned threads_max = 3, locs_max = 32, stores_max = 16, buffer_max = 6, notes_max = 8;
using view = std::array<byte, locs_max>; // atomic: index of a store; plain: what is known of it

constexpr byte knows_write = 1, knows_all = 0xff; // of a plain location; 2 << t: of thread t's newest read

struct location {
  std::string name;
  bool plain;
  byte initial;
  bool lock; // each store but the newest is followed by a read-modify-write: only that one can be taken
};

struct state {
  struct thread {
    std::uint32_t place = 0; // in the tree
    byte waits = 0;          // location + 1 of a futex
    byte interrupts = 0;     // all_barrier: threads that have not had theirs
    bool fencing = false;
    bool delayed = false; // by the compiler
    byte delayed_loc = 0, delayed_x = 0;
    byte n = 0; // tso
    byte loc[buffer_max]{}, x[buffer_max]{};
    view seen{}; // weak
    view held{}; // at the last compiler barrier, if one is missing
  };
  struct store {
    byte x;
    bool follows; // a read-modify-write: nothing comes between it and its predecessor
    view carries;
  };
  thread t[threads_max];
  byte value[locs_max]{}; // tso; plain ones also weak
  view fenced{};          // what the last full fence knew
  byte notes[notes_max]{};
  byte n[locs_max]{}; // weak: stores of a location, oldest first
  store s[locs_max][stores_max];

  state() {}
  state(const state& from) { *this = from; }
  state& operator=(const state& from) { // most of it is never used
    std::memcpy(static_cast<void*>(this), &from, offsetof(state, s));
    for (unsigned l = 0; l < locs_max; l++) std::memcpy(s[l], from.s[l], n[l] * sizeof(store));
    return *this;
  }
};

class world;
inline world* current; // whose locations are made, whose program runs

struct result {
  std::size_t states = 0, steps = 0, ends = 0;
  std::string failure; // empty: none
  std::vector<std::string> trace;
};

class world {
public:
  explicit world(memory m, site without = site::none) : memory_(m), without_(without) { current = this; }
  virtual ~world() { current = nullptr; }
  world(const world&) = delete;
  world& operator=(const world&) = delete;

  virtual void program(unsigned thread) = 0;
  /// Nobody can go on. Empty: as it should be.
  virtual std::string at_rest() { return ""; }

  /// Stops without a finding once it has seen that many states.
  result explore(std::size_t most = 10'000'000);

  // ---- for programs
  bool loads_in_order() const { return memory_ != memory::weak; }
  byte perform(operation o) {
    if (std::uncaught_exceptions()) return 0; // the guards of a stopped program
    if (at_ < results_.size()) return results_[at_++];
    throw o;
  }
  byte add(bool plain, byte initial, bool lock = false) {
    if (locs_.size() == locs_max) std::abort();
    locs_.push_back({"#" + std::to_string(locs_.size()), plain, initial, lock});
    return static_cast<byte>(locs_.size() - 1);
  }
  byte code(const void* p) {
    for (std::size_t i = 0; i < objects_.size(); i++)
      if (objects_[i] == p) return static_cast<byte>(i);
    objects_.push_back(p);
    return static_cast<byte>(objects_.size() - 1);
  }
  const void* object(byte i) const { return objects_[i]; }
  template <class T> void name(const T& x, std::string s) { locs_[x.id].name = std::move(s); }
  template <class T, class V> void begins_as(const T& x, V v) { locs_[x.id].initial = T::encode(v); }

  // ---- for at_rest()
  byte value(byte loc) const {
    return memory_ == memory::tso || locs_[loc].plain ? now_->value[loc] : now_->s[loc][now_->n[loc] - 1].x;
  }
  template <class T> auto value(const T& x) const { return x.decode(value(x.id)); }
  byte note(unsigned i) const { return now_->notes[i]; }
  bool sleeps(unsigned t) const { return now_->t[t].waits; }

protected:
  unsigned n_threads_ = 2;

private:
  struct place {
    operation next;
    std::uint32_t parent = 0;
    byte by = 0;
    std::vector<std::pair<byte, std::uint32_t>> then;
  };

  std::uint32_t discover(unsigned t, std::uint32_t parent, byte by);
  std::uint32_t settle(unsigned t, std::uint32_t at);
  std::uint32_t after(unsigned t, std::uint32_t at, byte r);
  bool missing(const operation& o) const { return o.at != site::none && o.at == without_; }
  const operation& next(const state& s, unsigned t) const { return tree_[t][s.t[t].place].next; }

  void join(view& a, const view& b) const;
  void fence(state& s, unsigned t) const;
  void touch(state& s, unsigned t, byte loc, bool write);
  void put(state& s, unsigned t, byte loc, byte at, byte x, bool release, int follows) const;
  void forget(state& s) const;

  void successors(const state& s);
  void step(const state& s, unsigned t);
  void step_weak(const state& s, unsigned t, const operation& o);
  void step_tso(const state& s, unsigned t, const operation& o);
  void store(state s, unsigned t, const operation& o, bool advances);
  void advance(state s, unsigned t, byte r);
  void wake(state& s, byte loc);
  bool passes(const state& s, unsigned t, const operation& o) const;
  void wrong(const std::string& why) {
    if (why.empty() || !failure_.empty()) return;
    failure_ = why;
    last_ = told_;
  }
  template <class S, class F> void each_part(S& s, F f) const;
  void tell(unsigned t, const operation& o, const std::string& more);

  memory memory_;
  site without_;
  std::vector<location> locs_;
  std::vector<const void*> objects_{nullptr};
  std::vector<place> tree_[threads_max];
  std::map<byte, std::uint32_t> places_[threads_max]; // that from_here() leads to
  std::vector<byte> results_;
  std::size_t at_ = 0;
  const state* now_ = nullptr;
  // of the step under way
  std::vector<state> out_;
  std::vector<std::string> texts_, told_, last_;
  bool telling_ = false;
  std::string failure_;
};

// ---- the policy

struct modelled {
  template <class T> struct coded {
    byte id;
    static byte encode(T x) {
      if constexpr (std::is_pointer_v<T>) return current->code(x);
      else return static_cast<byte>(x);
    }
    static T decode(byte x) {
      if constexpr (std::is_pointer_v<T>) return static_cast<T>(const_cast<void*>(current->object(x)));
      else return static_cast<T>(x);
    }
  };
  template <class T> struct atomic : coded<T> {
    atomic(T x = T{}) : coded<T>{current->add(false, coded<T>::encode(x))} {}
    atomic(const atomic&) = delete;
  };
  template <class T> struct plain : coded<T> {
    plain(T x = T{}) : coded<T>{current->add(true, coded<T>::encode(x))} {}
    plain(const plain&) = delete;
    plain& operator=(const plain& from) { return *this = static_cast<T>(from); }
    operator T() const { return this->decode(current->perform({action::plain_read, this->id})); }
    plain& operator=(T x) {
      current->perform({action::plain_write, this->id, false, false, this->encode(x)});
      return *this;
    }
  };
  struct lock {
    byte id = current->add(false, 0, true);
    void take() { current->perform({action::lock, id, true, false, 1, 0, site::spin_lock}); }
    bool try_lock() { return current->perform({action::try_lock, id, true, false, 1, 0, site::spin_lock}); }
    void unlock() { current->perform({action::unlock, id, false, true, 0, 0, site::spin_unlock}); }
    static byte decode(byte x) { return x; }
  };
  struct guard {
    lock& l;
    explicit guard(lock& of) : l(of) { l.take(); }
    ~guard() noexcept(false) { l.unlock(); }
  };
  static constexpr unsigned sleepers_max = 3;
  static bool loads_in_order() { return current->loads_in_order(); }

  static bool acquires(std::memory_order o) {
    return o == std::memory_order_acquire || o == std::memory_order_acq_rel || o == std::memory_order_seq_cst;
  }
  static bool releases(std::memory_order o) {
    return o == std::memory_order_release || o == std::memory_order_acq_rel || o == std::memory_order_seq_cst;
  }
  template <class T> static T load(const atomic<T>& a, std::memory_order o, site at = {}) {
    return a.decode(current->perform({action::load, a.id, acquires(o), false, 0, 0, at}));
  }
  template <class T> static void store(atomic<T>& a, T x, std::memory_order o, site at = {}) {
    current->perform({action::store, a.id, false, releases(o), a.encode(x), 0, at});
  }
  static void store(lock& l, std::uint32_t, std::memory_order o, site at) {
    current->perform({action::unlock, l.id, false, releases(o), 0, 0, at});
  }
  template <class T> static bool cas(atomic<T>& a, T& was, T x, std::memory_order o, site at = {}) {
    byte expected = a.encode(was);
    byte had = current->perform({action::cas, a.id, acquires(o), releases(o), a.encode(x), expected, at});
    was = a.decode(had);
    return had == expected;
  }
  template <class T> static T exchange(atomic<T>& a, T x, std::memory_order o, site at = {}) {
    return a.decode(current->perform({action::change, a.id, acquires(o), releases(o), a.encode(x), 0, at}));
  }
  template <class T> static T fetch_or(atomic<T>& a, T x, std::memory_order o, site at = {}) {
    return a.decode(current->perform({action::change, a.id, acquires(o), releases(o), a.encode(x), 0xff, at}));
  }
  template <class T> static T fetch_and(atomic<T>& a, T x, std::memory_order o, site at = {}) {
    return a.decode(current->perform({action::change, a.id, acquires(o), releases(o), 0, a.encode(x), at}));
  }
  static void compiler_fence(site at) { current->perform({action::barrier, 0, false, false, 0, 0, at}); }
  static void all_threads_fence(site at) { current->perform({action::all_barrier, 0, false, false, 0, 0, at}); }
  template <class T> static void futex_wait(atomic<T>& a, std::uint32_t x) {
    current->perform({action::wait, a.id, false, false, 0, static_cast<byte>(x)});
  }
  static void full_fence(site at) { current->perform({action::full_barrier, 0, false, false, 0, 0, at}); }
  /// Stands in a loop, and in the whole program only once for each word.
  template <class T> static void futex_wait_for(atomic<T>& a, std::uint32_t x, std::int64_t);
  template <class T> static void futex_wake(atomic<T>& a) { current->perform({action::wake, a.id}); }
  static void pause(int&) { current->perform({action::pause}); }
  static void relax() { current->perform({action::pause}); }
};

/// What the thread does from here on depends on `what` alone, not on how it came here: places it has been at before are
/// not new. For the heads of loops; without it the model is as right, and larger.
inline void from_here(unsigned what) { current->perform({action::same, static_cast<byte>(what)}); }
template <class T> void modelled::futex_wait_for(atomic<T>& a, std::uint32_t x, std::int64_t) {
  from_here(128u + a.id);
  if (!current->perform({action::choose, 0, false, false, 2})) futex_wait(a, x); // else its time is over
}
inline void check(bool good, const char* why) {
  if (!good) current->perform({action::fail, 0, false, false, 0, 0, {}, why});
}
/// Note i counts to 1 at most: an item was run.
inline void ran(unsigned i) { current->perform({action::count, static_cast<byte>(i)}); }
/// For at_rest(): note i is x.
inline void mark(unsigned i, unsigned x) {
  current->perform({action::mark, static_cast<byte>(i), false, false, static_cast<byte>(x)});
}
/// Between claim(i) and drop(i) nobody else may claim.
inline void claim(unsigned i) { current->perform({action::claim, static_cast<byte>(i)}); }
inline void drop(unsigned i) { current->perform({action::drop, static_cast<byte>(i)}); }

} // namespace model
