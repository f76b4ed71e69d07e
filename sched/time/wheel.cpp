// sched/time/wheel.cpp - see wheel.hpp.
#include "sched/time/wheel.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "base/san.hpp"
#include "sched/goroutine/g.hpp"

namespace grt {

void wheel::turn_to(std::uint64_t tick) noexcept { now = std::max(now, std::min(tick, last - 1)); }

void wheel::place(timer_node* n) noexcept {
  std::uint64_t t = std::max(n->tick, now + 1); // at most `last`, so level < levels
  int level = (63 - __builtin_clzll((t ^ now) | 63)) / 6;
  int slot = static_cast<int>((t >> (6 * level)) & 63);
  n->level = static_cast<std::uint8_t>(level);
  n->slot = static_cast<std::uint8_t>(slot);
  timer_node** head = &slots[level][slot];
  n->next = *head;
  if (n->next) n->next->link = &n->next;
  n->link = head;
  *head = n;
  bits[level] |= std::uint64_t{1} << slot;
  used |= std::uint64_t{1} << level;
}

void wheel::unplace(timer_node* n) noexcept {
  GRT_DCHECK(*n->link == n, "a timer is not where it says");
  *n->link = n->next;
  if (n->next) n->next->link = n->link;
  n->link = nullptr;
  if (!slots[n->level][n->slot]) {
    bits[n->level] &= ~(std::uint64_t{1} << n->slot);
    if (!bits[n->level]) used &= ~(std::uint64_t{1} << n->level);
  }
}

bool wheel::first(int& level, int& slot, std::uint64_t& tick) const noexcept {
  if (!used) return false;
  level = __builtin_ctzll(used);
  slot = __builtin_ctzll(bits[level]);
  std::uint64_t below = (std::uint64_t{1} << (6 * (level + 1))) - 1;
  tick = (now & ~below) | (static_cast<std::uint64_t>(slot) << (6 * level));
  return true;
}

void wheel::publish() noexcept {
  int level, slot;
  std::uint64_t tick;
  next_ns.store(first(level, slot, tick) ? tick << tick_shift : never, std::memory_order_relaxed);
}

void wheel::insert(timer_node* n, std::uint64_t when_ns, std::uint64_t now_ns) noexcept {
  GRT_DCHECK(!n->link, "a timer is set twice");
  if (!used && !advancing) turn_to(now_ns >> tick_shift); // an empty wheel needs no advance()
  std::uint64_t round = (std::uint64_t{1} << tick_shift) - 1;
  n->tick = when_ns > never - round ? last : (when_ns + round) >> tick_shift;
  n->owner.store(this, std::memory_order_release); // [OWNER-1] from here on timer_cancel may lock this wheel
  san::release(n);                                 // TSan does not see the code that takes the lock
  place(n);
  armed++;
  std::uint64_t at = std::max(n->tick, now + 1) << tick_shift;
  if (at < next_ns.load(std::memory_order_relaxed)) publish();
}

bool wheel::remove(timer_node* n) noexcept {
  if (!n->link) return false;
  unplace(n);
  armed--;
  return true;
}

void wheel::advance(std::uint64_t now_ns, G** out) noexcept {
  std::uint64_t target = std::min(now_ns >> tick_shift, last - 1);
  int level, slot;
  std::uint64_t tick;
  advancing = true; // a node that arms itself while it fires must not move `now`: it could land in the slot that is
                    // being emptied, again and again
  while (first(level, slot, tick) && tick <= target) {
    turn_to(tick);
    while (timer_node* n = slots[level][slot]) {
      unplace(n);
      if (n->tick > now) {
        place(n); // to a finer level, never to this slot: the higher bits of its tick now equal those of `now`
        continue;
      }
      armed--;
      san::acquire(n);
      G* g = n->fire(n);
      san::release(n); // pairs with timer_cancel
      if (g) {
        g->link = nullptr;
        *out = g;
        out = &g->link;
      }
    }
  }
  advancing = false;
  *out = nullptr;
  turn_to(target);
  // No timer may remain in a slot of a coarser level that `now` has entered, because first() would never look back at
  // it. None does: the slot's first tick is <= now <= target, so the loop above has emptied it.
  GRT_DCHECK(!first(level, slot, tick) || tick > target, "a timer that is due was left");
  publish();
}

void wheel::absorb(wheel& from, std::uint64_t now_ns) noexcept {
  if (!used) turn_to(now_ns >> tick_shift);
  for (int level = 0; level < levels; level++)
    for (int slot = 0; slot < 64; slot++)
      while (timer_node* n = from.slots[level][slot]) {
        from.unplace(n);
        from.armed--;
        n->owner.store(this, std::memory_order_release); // [OWNER-1]
        place(n);
        armed++;
      }
  GRT_CHECK(!from.armed && !from.used, "a wheel has lost count of its timers");
  from.publish();
  publish();
}

} // namespace grt
