// chan/select_set.cpp - a select whose cases change at run time. The cases are collected anew for each wait, because
// they are few and a handler may have changed them.
#include <grt/select.hpp>

#include <algorithm>
#include <stdexcept>

#include "base/check.hpp"

namespace grt {
namespace detail {
set_entry::~set_entry() { chan_unref(chan); }
} // namespace detail
using detail::set_entry;

std::size_t select_set::put(std::shared_ptr<set_entry> e) {
  if (e->kind == set_entry::dflt &&
      std::any_of(entries_.begin(), entries_.end(), [](auto& x) { return x->kind == set_entry::dflt; }))
    throw std::logic_error("grt::select_set: two defaults");
  std::size_t n = entries_.size() + 1;
  cases_.reserve(n);
  of_case_.reserve(n);
  order_.reserve(n);
  scratch_.reserve(n);
  e->index = next_;
  entries_.push_back(std::move(e));
  return next_++;
}

bool select_set::remove(std::size_t index) noexcept {
  auto at =
      std::lower_bound(entries_.begin(), entries_.end(), index, [](auto& e, std::size_t i) { return e->index < i; });
  if (at == entries_.end() || (*at)->index != index) return false;
  std::shared_ptr<set_entry> keep = std::move(*at); // the destructor of a value may call this set
  entries_.erase(at);
  return true;
}

std::size_t select_set::wait() {
  cases_.clear();
  of_case_.clear();
  set_entry *timeout = nullptr, *dflt = nullptr;
  for (auto& e : entries_) {
    if (e->k) {
      cases_.push_back(e->k);
      of_case_.push_back(e.get());
    } else if (e->kind == set_entry::dflt) {
      dflt = e.get();
    } else if (!timeout || e->ns < timeout->ns) {
      timeout = e.get();
    }
  }
  order_.resize(cases_.size());
  scratch_.resize(cases_.size());
  detail::select_room room{order_.data(), scratch_.data()};
  detail::select_args a{
      cases_.data(), static_cast<unsigned>(cases_.size()), dflt != nullptr, timeout ? timeout->ns : -1, nullptr, &room};
  bool ok = true;
  int fired = detail::select_run(a, ok);
  set_entry* e = fired == detail::select_default   ? dflt
                 : fired == detail::select_timeout ? timeout
                                                   : of_case_[static_cast<unsigned>(fired)];
  GRT_CHECK(e, "the case that fired is in the set");
  auto at =
      std::lower_bound(entries_.begin(), entries_.end(), e->index, [](auto& x, std::size_t i) { return x->index < i; });
  std::shared_ptr<set_entry> keep = *at; // the handler may remove the entry
  if (keep->kind == set_entry::send) entries_.erase(at);
  std::size_t index = keep->index;
  keep->fire(ok);
  return index;
}

} // namespace grt
