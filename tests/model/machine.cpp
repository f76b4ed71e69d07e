// tests/model/machine.cpp - what each operation does to each memory.
#include "tests/model/machine.hpp"

#include <algorithm>

namespace model {
// ---- views

void world::join(view& a, const view& b) const {
  for (std::size_t i = 0; i < locs_.size(); i++) a[i] = locs_[i].plain ? a[i] | b[i] : std::max(a[i], b[i]);
}

void world::fence(state& s, unsigned t) const {
  auto& me = s.t[t];
  if (memory_ == memory::tso) {
    for (unsigned i = 0; i < me.n; i++) s.value[me.loc[i]] = me.x[i];
    me.n = 0;
  } else {
    join(me.seen, s.fenced);
    s.fenced = me.seen;
  }
}

// A plain access, which must come after all writes, and a write after all reads.
void world::touch(state& s, unsigned t, byte loc, bool write) {
  byte& mine = s.t[t].seen[loc];
  byte wanted = write ? knows_all : knows_write;
  if ((mine & wanted) != wanted) wrong("a race on " + locs_[loc].name);
  byte stale = write ? knows_all : static_cast<byte>(2 << t);
  auto spoil = [&](view& v) { v[loc] &= static_cast<byte>(~stale); };
  for (unsigned u = 0; u < n_threads_; u++) spoil(s.t[u].seen), spoil(s.t[u].held);
  for (unsigned l = 0; l < locs_.size(); l++)
    for (unsigned i = 0; i < s.n[l]; i++) spoil(s.s[l][i].carries);
  spoil(s.fenced);
  mine |= stale;
}

// Inserts a store of t before index `at`; follows: the index of the store a read-modify-write has read, or -1.
void world::put(state& s, unsigned t, byte loc, byte at, byte x, bool release, int follows) const {
  auto& stores = s.s[loc];
  if (s.n[loc] == stores_max) {
    std::fprintf(stderr, "model: %s has too many stores\n", locs_[loc].name.c_str());
    std::abort();
  }
  auto shift = [&](view& v) {
    if (v[loc] >= at) v[loc]++;
  };
  for (unsigned u = 0; u < n_threads_; u++) shift(s.t[u].seen);
  for (unsigned l = 0; l < locs_.size(); l++)
    for (unsigned i = 0; i < s.n[l]; i++) shift(s.s[l][i].carries);
  shift(s.fenced);
  std::copy_backward(stores + at, stores + s.n[loc], stores + s.n[loc] + 1);
  s.n[loc]++;
  s.t[t].seen[loc] = at;
  view carries{};
  carries[loc] = at;
  if (release) carries = s.t[t].seen;
  if (follows >= 0) join(carries, stores[follows].carries);
  stores[at] = {x, follows >= 0, carries};
}

// Stores that nobody can read any more, so that states that differ in them alone are one.
void world::forget(state& s) const {
  if (memory_ == memory::tso) return;
  for (unsigned l = 0; l < locs_.size(); l++) {
    if (locs_[l].plain) continue;
    byte least = static_cast<byte>(s.n[l] - 1);
    for (unsigned t = 0; t < n_threads_; t++)
      if (!locs_[l].lock && (next(s, t).what != action::done || s.t[t].delayed))
        least = std::min(least, s.t[t].seen[l]);
    if (!least) continue;
    std::copy(s.s[l] + least, s.s[l] + s.n[l], s.s[l]);
    s.n[l] = static_cast<byte>(s.n[l] - least);
    auto shift = [&](view& v) { v[l] = static_cast<byte>(v[l] > least ? v[l] - least : 0); };
    for (unsigned t = 0; t < n_threads_; t++) shift(s.t[t].seen);
    for (unsigned k = 0; k < locs_.size(); k++)
      for (unsigned i = 0; i < s.n[k]; i++) shift(s.s[k][i].carries);
    shift(s.fenced);
    s.s[l][0].follows = false;
  }
}

// ---- steps

void world::tell(unsigned t, const operation& o, const std::string& more) {
  if (!telling_) return;
  static const char* const names[] = {"load",       "store",  "cas",        "change",     "read",
                                      "write",      "lock",   "try_lock",   "unlock",     "compiler barrier",
                                      "membarrier", "fence",  "futex_wait", "futex_wake", "pause",
                                      "same",       "choose", "ran",        "claims",     "marks",
                                      "drops",      "fails",  "done"};
  std::string line = std::to_string(t) + ": " + names[static_cast<int>(o.what)];
  if (o.what >= action::count && o.what <= action::drop) line += " #" + std::to_string(o.loc);
  else if (o.what < action::barrier || (o.what > action::full_barrier && o.what < action::pause))
    line += " " + locs_[o.loc].name;
  if (o.acquire) line += " acquire";
  if (o.release) line += " release";
  told_.push_back(line + more);
}

void world::advance(state s, unsigned t, byte r) {
  std::uint32_t to = after(t, s.t[t].place, r);
  s.t[t].place = to;
  const operation& o = tree_[t][to].next;
  if (o.what == action::pause) return; // nothing has changed: it waits
  bool local = o.what == action::mark || o.what == action::choose || o.what == action::count ||
               o.what == action::claim || o.what == action::fail || o.what == action::barrier ||
               o.what == action::plain_read || o.what == action::plain_write;
  if (local && (!s.t[t].delayed || passes(s, t, o))) return step(s, t);
  forget(s);
  out_.push_back(s);
  if (telling_) {
    std::string all;
    for (auto& line : told_) all += (all.empty() ? "" : "; ") + line;
    texts_.push_back(all);
  }
}

// May o be done before the store that the compiler holds back?
bool world::passes(const state& s, unsigned t, const operation& o) const {
  if (o.loads()) return o.loc != s.t[t].delayed_loc;
  return (o.what == action::barrier && missing(o)) || o.what == action::choose || o.what == action::count ||
         o.what == action::claim || o.what == action::mark || o.what == action::fail;
}

void world::wake(state& s, byte loc) {
  for (unsigned u = 0; u < n_threads_; u++) {
    if (s.t[u].waits != loc + 1) continue;
    s.t[u].waits = 0;
    s.t[u].place = after(u, s.t[u].place, 0);
  }
}

// A store or plain write reaches the memory.
void world::store(state s, unsigned t, const operation& o, bool advances) {
  auto go_on = [&](state& to) {
    if (advances) return advance(to, t, 0);
    forget(to);
    out_.push_back(to);
    if (telling_) texts_.push_back(told_.back());
  };
  std::string more;
  if (telling_) more = " = " + std::to_string(o.x) + (advances ? "" : " (the compiler moved it here)");
  auto told = [&](auto f) {
    std::size_t n = told_.size();
    tell(t, o, more);
    f();
    told_.resize(n);
  };
  if (memory_ == memory::tso) {
    auto& me = s.t[t];
    if (me.n == buffer_max) return;
    if (locs_[o.loc].plain)
      for (unsigned u = 0; u < n_threads_; u++)
        if (u != t && std::count(s.t[u].loc, s.t[u].loc + s.t[u].n, o.loc)) wrong("a race on " + locs_[o.loc].name);
    me.loc[me.n] = o.loc;
    me.x[me.n++] = o.x;
    return told([&] { go_on(s); });
  }
  if (locs_[o.loc].plain) {
    touch(s, t, o.loc, true);
    s.value[o.loc] = o.x;
    return told([&] { go_on(s); });
  }
  for (unsigned at = s.n[o.loc]; at > s.t[t].seen[o.loc]; at--) { // newest first
    if (at < s.n[o.loc] && s.s[o.loc][at].follows) continue;
    state to = s;
    put(to, t, o.loc, static_cast<byte>(at), o.x, o.release && !missing(o), -1);
    if (telling_ && at < s.n[o.loc]) more += " before a newer one";
    told([&] { go_on(to); });
  }
}

void world::step(const state& s, unsigned t) {
  const operation o = next(s, t);
  if (s.t[t].delayed && !passes(s, t, o)) return;
  std::size_t n = told_.size();
  auto simply = [&](const state& to, byte r = 0) {
    tell(t, o, "");
    advance(to, t, r);
    told_.resize(n);
  };
  state to = s;
  auto& me = to.t[t];
  switch (o.what) {
  case action::done: return;
  case action::pause:
  case action::same: return;
  case action::fail: tell(t, o, ""); return wrong(o.why);
  case action::choose:
    for (byte r = 0; r < o.x; r++) simply(to, r);
    return;
  case action::count:
  case action::claim:
    if (++to.notes[o.loc] > 1)
      wrong(o.what == action::count ? "item " + std::to_string(o.loc) + " was run twice" : "two parties in one place");
    return simply(to);
  case action::mark: to.notes[o.loc] = o.x; return simply(to);
  case action::drop: to.notes[o.loc]--; return simply(to);
  case action::barrier: // loads behind a missing one may have been done before what stands in front of it
    if (without_ == site::enter_order)
      for (std::size_t l = 0; l < locs_.size(); l++)
        if (locs_[l].plain) (missing(o) ? me.seen[l] : me.held[l]) = missing(o) ? me.held[l] : me.seen[l];
    return simply(to);
  case action::all_barrier:
    if (missing(o)) return simply(to);
    fence(to, t);
    for (unsigned u = 0; u < n_threads_; u++)
      if (u != t && !to.t[u].waits) me.interrupts |= static_cast<byte>(1 << u);
    if (!me.interrupts) return simply(to);
    me.fencing = true;
    out_.push_back(to);
    tell(t, o, " begins");
    if (telling_) texts_.push_back(told_.back());
    told_.resize(n);
    return;
  case action::full_barrier:
    if (!missing(o)) fence(to, t);
    return simply(to);
  case action::wake:
    fence(to, t);
    wake(to, o.loc);
    return simply(to);
  case action::store:
  case action::unlock:
  case action::plain_write:
    store(to, t, o, true);
    if (!o.release && !me.delayed) { // may the compiler hold it back?
      me.delayed_loc = o.loc;
      std::uint32_t then = after(t, me.place, 0);
      const operation& p = tree_[t][then].next;
      if (p.what != action::done && passes(to, t, p)) {
        me.delayed = true;
        me.delayed_x = o.x;
        if (telling_) tell(t, o, " = " + std::to_string(o.x) + " is held back by the compiler");
        advance(to, t, 0);
        told_.resize(n);
      } else {
        me.delayed_loc = 0;
      }
    }
    return;
  default: memory_ == memory::tso ? step_tso(to, t, o) : step_weak(to, t, o);
  }
}

void world::step_tso(const state& s, unsigned t, const operation& o) {
  state to = s;
  auto& me = to.t[t];
  std::size_t n = told_.size();
  auto done = [&](byte r) {
    if (telling_) tell(t, o, " is " + std::to_string(r));
    advance(to, t, r);
    told_.resize(n);
  };
  if (o.loads()) {
    if (o.what == action::plain_read)
      for (unsigned u = 0; u < n_threads_; u++)
        if (u != t && std::count(to.t[u].loc, to.t[u].loc + to.t[u].n, o.loc)) wrong("a race on " + locs_[o.loc].name);
    byte x = to.value[o.loc];
    for (unsigned i = 0; i < me.n; i++)
      if (me.loc[i] == o.loc) x = me.x[i];
    return done(x);
  }
  fence(to, t);
  byte& x = to.value[o.loc];
  byte had = x;
  switch (o.what) {
  case action::cas:
    if (had == o.was) x = o.x;
    return done(had);
  case action::change: x = static_cast<byte>((had & o.was) | o.x); return done(had);
  case action::lock:
    if (had) return;
    x = 1;
    return done(0);
  case action::try_lock: x = 1; return done(!had);
  case action::wait:
    if (had != o.was) return done(0);
    me.waits = static_cast<byte>(o.loc + 1);
    tell(t, o, ": asleep");
    out_.push_back(to);
    if (telling_) texts_.push_back(told_.back());
    told_.resize(n);
    return;
  default: std::abort();
  }
}

void world::step_weak(const state& s, unsigned t, const operation& o) {
  std::size_t n = told_.size();
  if (o.what == action::plain_read) {
    state to = s;
    touch(to, t, o.loc, false);
    byte r = to.value[o.loc];
    if (telling_) tell(t, o, " is " + std::to_string(r));
    advance(to, t, r);
    told_.resize(n);
    return;
  }
  state base = s;
  if (o.what == action::wait) fence(base, t);
  for (int i = base.n[o.loc] - 1; i >= base.t[t].seen[o.loc]; i--) { // newest first
    byte had = base.s[o.loc][i].x, r = had;
    bool writes = false;
    byte x = o.x;
    switch (o.what) {
    case action::load: break;
    case action::cas: writes = had == o.was; break;
    case action::change:
      writes = true;
      x = static_cast<byte>((had & o.was) | o.x);
      break;
    case action::lock:
      if (had) continue;
      writes = true;
      break;
    case action::try_lock:
      r = !had;
      writes = r;
      break;
    case action::wait: r = 0; break;
    default: std::abort();
    }
    if (writes && i + 1 < base.n[o.loc] && base.s[o.loc][i + 1].follows) continue;
    state to = base;
    auto& me = to.t[t];
    me.seen[o.loc] = static_cast<byte>(i);
    if (o.acquire && !missing(o)) join(me.seen, to.s[o.loc][i].carries);
    if (writes) put(to, t, o.loc, static_cast<byte>(i + 1), x, o.release && !missing(o), i);
    std::string more;
    if (telling_) more = " is " + std::to_string(had) + (i + 1 < base.n[o.loc] ? " (not the newest)" : "");
    if (telling_ && o.what == action::cas) more += writes ? ", becomes " + std::to_string(o.x) : ": fails";
    if (telling_ && o.what == action::change) more += ", becomes " + std::to_string(x);
    if (o.what == action::wait && had == o.was) {
      me.waits = static_cast<byte>(o.loc + 1);
      tell(t, o, ": asleep");
      forget(to);
      out_.push_back(to);
      if (telling_) texts_.push_back(told_.back());
    } else {
      tell(t, o, more);
      advance(to, t, r);
    }
    told_.resize(n);
  }
}

} // namespace model
