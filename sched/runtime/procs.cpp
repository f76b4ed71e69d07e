// sched/runtime/procs.cpp - the number of Ps. Ps are made when the number grows, and are never destroyed.
#include "sched/runtime/procs.hpp"

#include <stdexcept>
#include <string>

#include <grt/runtime.hpp>

#include "sched/core/sched.hpp"
#include "sched/goroutine/slab.hpp"
#include "sched/monitor/quota.hpp"
#include "sched/protocol/handoff.hpp"
#include "sched/runtime/map.hpp"
#include "sched/runtime/threads.hpp"

namespace grt {

std::atomic<P*> all_p[procs_max];
std::atomic<unsigned> n_procs{0}, n_made{0};

namespace {
spin_lock changing; // held while threads are created; taken by the start, set_procs() and sysmon (follow_cpus) only
std::atomic<bool> procs_follow{false}; // the number of Ps follows what the system allows, because none was requested

struct sightings {
  P::sighting of[procs_max];
};

// Under `changing`.
void make_procs(unsigned n) {
  stack::set_slack(n);
  for (unsigned i = n_made.load(std::memory_order_relaxed); i < n; i++) {
    P* p = all_p[i].load(std::memory_order_relaxed);
    if (!p) {
      p = map_one<P>();
      M* m = m_make(i);
      p->id = i;
      p->seen = map_one<sightings>()->of;
      p->free_most = slab_free_most();
      p->random = i * 77777 + 88172645;
      p->m.store(m, std::memory_order_relaxed);
      m->p = p;
    } // otherwise the P was made before, but its thread could not be started
    all_p[i].store(p, std::memory_order_relaxed);
    n_made.store(i + 1, std::memory_order_release); // [PROCS-1] a reader sees all_p set up to here
    if (int error = thread_start(thread_main, p->m.load(std::memory_order_relaxed))) {
      n_made.store(i, std::memory_order_relaxed);
      throw std::system_error(error, std::generic_category(), "grt: cannot start a thread");
    }
  }
}
} // namespace

void procs_begin(unsigned n, bool follow_the_system) {
  held_guard hold(changing);
  n_procs.store(n, std::memory_order_relaxed);
  make_procs(n);
  procs_follow.store(follow_the_system, std::memory_order_release); // [START-2] all Ps have been made
}

unsigned procs() {
  start_runtime();
  return n_procs.load(std::memory_order_relaxed);
}

static unsigned change_procs(unsigned n);

unsigned set_procs(unsigned n) {
  if (n < 1 || n > procs_max) throw std::invalid_argument("grt: set_procs(" + std::to_string(n) + "): 1 to 1024");
  start_runtime();
  procs_follow.store(false, std::memory_order_relaxed);
  return change_procs(n);
}

void follow_cpus() noexcept {
  if (!procs_follow.load(std::memory_order_acquire)) return; // [START-2]
  unsigned n = std::min(cpus_allowed(), procs_max);
  if (n == n_procs.load(std::memory_order_relaxed)) return;
  try {
    change_procs(n);
  } catch (const std::system_error&) { // no thread could be started: sysmon tries again
  }
}

static unsigned change_procs(unsigned n) {
  unsigned old;
  {
    held_guard hold(changing);
    old = n_procs.load(std::memory_order_relaxed);
    make_procs(n);
    protocol::set_limit<hardware>(n_procs, n);
  }
  for (unsigned i = 0; i < n_made.load(std::memory_order_relaxed); i++)
    protocol::wake_retired<hardware>(all_p[i].load(std::memory_order_relaxed));
  return old;
}

std::size_t goroutines() {
  std::uint64_t in = 0, out = 0;
  unsigned n = n_made.load(std::memory_order_acquire); // [PROCS-1]
  for (unsigned i = 0; i < n; i++)
    out += all_p[i].load(std::memory_order_relaxed)->exited.load(std::memory_order_acquire); // [COUNT-1]
  for (unsigned i = 0; i < n; i++)
    in += all_p[i].load(std::memory_order_relaxed)->spawned.load(std::memory_order_acquire); // [COUNT-1]
  in += detail::foreign_spawned.load(std::memory_order_acquire);                             // [COUNT-1]
  return in > out ? in - out : 0;
}

} // namespace grt
