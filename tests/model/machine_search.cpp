// tests/model/machine_search.cpp - programs as trees, and the breadth-first search.
#include "tests/model/machine.hpp"

#include <algorithm>
#include <deque>
#include <string_view>
#include <unordered_set>

namespace model {

// ---- programs as trees

// The operation that follows the results on the way from the root to `parent`, then `by`.
std::uint32_t world::discover(unsigned t, std::uint32_t parent, byte by) {
  auto& tree = tree_[t];
  std::vector<byte> way;
  if (!tree.empty()) {
    way.push_back(by);
    for (std::uint32_t at = parent; at; at = tree[at].parent) way.push_back(tree[at].by);
    std::reverse(way.begin(), way.end());
  }
  results_ = std::move(way);
  at_ = 0;
  place p;
  p.parent = parent;
  p.by = by;
  try {
    program(t);
  } catch (const operation& o) {
    p.next = o;
  }
  tree.push_back(p);
  return static_cast<std::uint32_t>(tree.size() - 1);
}

// from_here() leads to where it led the first time.
std::uint32_t world::settle(unsigned t, std::uint32_t at) {
  operation o = tree_[t][at].next;
  if (o.what != action::same) return at;
  if (auto known = places_[t].find(o.loc); known != places_[t].end()) return known->second;
  return places_[t][o.loc] = discover(t, at, 0); // may not be another from_here()
}

std::uint32_t world::after(unsigned t, std::uint32_t at, byte r) {
  for (auto& [by, to] : tree_[t][at].then)
    if (by == r) return to;
  std::uint32_t to = discover(t, at, r);
  to = settle(t, to);
  tree_[t][at].then.push_back({r, to});
  return to;
}

void world::successors(const state& s) {
  out_.clear();
  texts_.clear();
  told_.clear();
  for (unsigned t = 0; t < n_threads_ && failure_.empty(); t++) {
    auto& me = s.t[t];
    if (me.n) {
      state to = s;
      auto& he = to.t[t];
      to.value[he.loc[0]] = he.x[0];
      if (telling_) texts_.push_back(std::to_string(t) + ": its store to " + locs_[he.loc[0]].name + " reaches memory");
      he.n--;
      std::copy(he.loc + 1, he.loc + 1 + he.n, he.loc);
      std::copy(he.x + 1, he.x + 1 + he.n, he.x);
      he.loc[he.n] = he.x[he.n] = 0;
      out_.push_back(to);
    }
    if (me.delayed) {
      state to = s;
      to.t[t].delayed = false;
      to.t[t].delayed_loc = to.t[t].delayed_x = 0;
      store(to, t,
            {locs_[me.delayed_loc].plain ? action::plain_write : action::store, me.delayed_loc, false, false,
             me.delayed_x},
            false);
    }
    if (me.fencing) {
      for (unsigned u = 0; u < n_threads_; u++) {
        if (!(me.interrupts >> u & 1)) continue;
        state to = s;
        fence(to, u);
        if (telling_) told_.push_back(std::to_string(u) + ": is interrupted by " + std::to_string(t) + "'s membarrier");
        to.t[t].interrupts &= static_cast<byte>(~(1 << u));
        if (!to.t[t].interrupts) {
          to.t[t].fencing = false;
          fence(to, t);
          advance(to, t, 0);
        } else {
          forget(to);
          out_.push_back(to);
          if (telling_) texts_.push_back(told_.back());
        }
        told_.clear();
      }
    } else if (!me.waits) {
      step(s, t);
    }
  }
}

// ---- search

template <class S, class F> void world::each_part(S& s, F f) const {
  auto all = [&](auto& v) {
    for (std::size_t i = 0; i < locs_.size(); i++) f(v[i]);
  };
  for (unsigned t = 0; t < n_threads_; t++) {
    auto& me = s.t[t];
    f(me.place), f(me.waits), f(me.interrupts), f(me.fencing), f(me.delayed), f(me.delayed_loc), f(me.delayed_x),
        f(me.n);
    for (unsigned i = 0; i < me.n; i++) f(me.loc[i]), f(me.x[i]);
    if (memory_ != memory::tso) all(me.seen), all(me.held);
  }
  all(s.value);
  for (auto& note : s.notes) f(note);
  if (memory_ == memory::tso) return;
  all(s.fenced);
  for (std::size_t l = 0; l < locs_.size(); l++) {
    if (locs_[l].plain) continue;
    f(s.n[l]);
    for (unsigned i = 0; i < s.n[l]; i++) f(s.s[l][i].x), f(s.s[l][i].follows), all(s.s[l][i].carries);
  }
}

result world::explore(std::size_t most) {
  current = this;
  result r;
  struct origin {
    std::uint32_t parent, which;
  };
  std::vector<origin> origins;
  std::deque<std::string> frontier;
  std::unordered_set<std::uint64_t> seen;

  auto pack = [&](const state& s) {
    std::string to;
    each_part(s, [&](auto& part) { to.append(reinterpret_cast<const char*>(&part), sizeof part); });
    return to;
  };
  auto unpack = [&](const std::string& from) {
    state s;
    const char* at = from.data();
    each_part(s, [&](auto& part) {
      std::memcpy(&part, at, sizeof part);
      at += sizeof part;
    });
    return s;
  };
  auto found = [&](const state& s, std::uint32_t parent, std::uint32_t which) {
    std::string packed = pack(s);
    if (!seen.insert(std::hash<std::string_view>{}(packed)).second) return;
    origins.push_back({parent, which});
    frontier.push_back(std::move(packed));
  };

  state start;
  for (unsigned t = 0; t < n_threads_; t++) {
    tree_[t].clear();
    places_[t].clear();
    start.t[t].place = settle(t, discover(t, 0, 0));
    for (std::size_t l = 0; l < locs_.size(); l++)
      start.t[t].seen[l] = start.t[t].held[l] = locs_[l].plain ? knows_all : 0;
  }
  for (std::size_t l = 0; l < locs_.size(); l++) {
    start.value[l] = locs_[l].initial;
    if (locs_[l].plain) continue;
    start.n[l] = 1;
    start.s[l][0] = {locs_[l].initial, false, {}};
  }
  const state first = start;
  found(start, 0, 0);
  std::uint32_t at = 0;
  for (; !frontier.empty() && failure_.empty() && origins.size() < most; at++) {
    state s = unpack(frontier.front());
    frontier.pop_front();
    successors(s);
    if (!failure_.empty()) break;
    if (out_.empty()) {
      r.ends++;
      now_ = &s;
      for (unsigned t = 0; t < n_threads_; t++)
        if (!s.t[t].waits && next(s, t).what != action::done) wrong("thread " + std::to_string(t) + " waits for ever");
      if (failure_.empty()) wrong(at_rest());
      if (!failure_.empty()) break;
    }
    r.steps += out_.size();
    for (std::uint32_t i = 0; i < out_.size(); i++) found(out_[i], at, i);
  }
  r.states = origins.size();
  r.failure = failure_;
  if (failure_.empty()) return r;
  std::vector<std::uint32_t> way;
  for (std::uint32_t i = at; i; i = origins[i].parent) way.push_back(origins[i].which);
  std::reverse(way.begin(), way.end());
  telling_ = true;
  state s = first;
  for (std::uint32_t which : way) {
    failure_.clear();
    successors(s);
    r.trace.push_back(texts_[which]);
    s = state(out_[which]);
  }
  failure_.clear();
  successors(s); // the step that went wrong is told as far as it came
  for (auto& line : last_) r.trace.push_back(line);
  r.trace.push_back("-> " + r.failure);
  telling_ = false;
  return r;
}

} // namespace model
