// sched/core/global_queue.cpp - the queue that belongs to no P. Threads without a P add to it, and Ps whose own
// queue is full. Every P takes from it.
#include <sched.h>
#include <utility>

#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/handoff.hpp"

namespace grt {

global_queue injected;

void global_append(global_queue::list& l, G* g) noexcept {
  GRT_DCHECK(g->kind == g_kind::goroutine, "no goroutine for the global queue");
  g->link = nullptr;
  *l.tail = g;
  l.tail = &g->link;
  l.pushed++;
  injected.n.fetch_add(1, std::memory_order_relaxed);
}

void inject_inside(G* g) noexcept {
  spin_guard hold(injected.lock);
  global_append(g->sp ? injected.woken : injected.to_start, g);
}

// Takes no lock, because the priority of this thread is lowered. To wake a sleeping M takes a lock, so sysmon does
// that.
void inject_low(G* g) noexcept {
  G* head = injected.returned.load(std::memory_order_relaxed);
  do g->link = head;
  while (!injected.returned.compare_exchange_weak(head, g, std::memory_order_release,
                                                  std::memory_order_relaxed)); // [RETURN-1]
  injected.n.fetch_add(1, std::memory_order_relaxed);
  sysmon_rouse();
}

// Caller: holds injected.lock. Appends them to the list of those that are to start, oldest first.
static void take_returned() noexcept {
  G *g = injected.returned.exchange(nullptr, std::memory_order_acquire), *list = nullptr; // [RETURN-1]
  while (g) {
    G* next = std::exchange(g->link, list);
    list = std::exchange(g, next);
  }
  while (list) {
    G* next = list->link;
    injected.n.fetch_sub(1, std::memory_order_relaxed);
    global_append(injected.to_start, list);
    list = next;
  }
}

void inject_last(G* g) noexcept {
  {
    spin_guard hold(injected.lock);
    global_append(injected.to_start, g);
  }
  notify();
}

void inject(G* g) noexcept {
  inject_inside(g);
  notify();
}

// GRT_DEBUG=migrate: returns the first goroutine that ran on another M last time. If the front is not such a
// goroutine, other Ms get 10 ms to take it. After that m takes it itself, because they may all be busy.
static G** first_to_move(M* m, G** front, std::uint64_t& refused) noexcept {
  auto moves = [m](G* g) { return !g->sp || g->pinned || g->last != static_cast<std::uint8_t>(m->id); };
  if (moves(*front) || n_procs.load(std::memory_order_relaxed) < 2) return refused = 0, front;
  std::uint64_t now = arch::cycles(), patience = 10000 * cycles_per_us.load(std::memory_order_relaxed);
  if (!refused) refused = now;
  if (now - refused > patience) return refused = 0, front;
  G** at = front;
  for (int i = 0; *at && i < 64; at = &(*at)->link, i++)
    if (moves(*at)) return at;
  return nullptr;
}

// Caller: holds injected.lock.
static G* pop_from(M* m, global_queue::list& l) noexcept {
  if (!l.head) return nullptr;
  G** at = GRT_UNLIKELY(migrating()) ? first_to_move(m, &l.head, m->refused[&l == &injected.to_start]) : &l.head;
  if (!at) return nullptr;
  G* g = *at;
  *at = g->link;
  if (!*at) l.tail = at;
  GRT_DCHECK(g->kind == g_kind::goroutine, "no goroutine in the global queue");
  GRT_DCHECK(injected.n.load(std::memory_order_relaxed), "the global queue has lost count");
  l.popped++;
  injected.n.fetch_sub(1, std::memory_order_relaxed);
  return g;
}

G* global_pop_of(M* m, global_queue::list& l) noexcept {
  spin_guard hold(injected.lock);
  return pop_from(m, l);
}

G* global_pop(M* m, bool may_start) noexcept {
  if (!injected.n.load(std::memory_order_relaxed)) return nullptr;
  bool refused;
  {
    spin_guard hold(injected.lock);
    if (GRT_UNLIKELY(injected.returned.load(std::memory_order_relaxed) != nullptr)) take_returned();
    bool start = may_start && (injected.start_next ^= 1);
    G* g = pop_from(m, start ? injected.to_start : injected.woken);
    if (!g && may_start) g = pop_from(m, start ? injected.woken : injected.to_start);
    if (g) return g;
    refused = migrating() && (injected.woken.head || (may_start && injected.to_start.head));
  }
  if (refused) { // the other Ms may be asleep
    notify();
    sched_yield();
  }
  return nullptr;
}

} // namespace grt
