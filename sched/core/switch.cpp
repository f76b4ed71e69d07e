// sched/core/switch.cpp - the functions that the switch in arch/ calls, and what sanitizers are told of a switch.
#include "base/futex.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"

namespace grt {

std::atomic<std::uint32_t> hooks{0};
arch::fp_env fp_default;

#if GRT_ASAN
namespace {
std::size_t fake_stack_bytes(G* g) noexcept {
  stack::bounds b{};
  stack::find(g->stk - 1, b);
  return san::fake_stack_bytes(static_cast<std::size_t>(b.high - b.low));
}
} // namespace
#endif

#if GRT_SANITIZED
// Tells the sanitizers of the switch, then switches. Binds the window itself, because ASan wants to know its bounds
// before the switch.
void switch_to(M* m, G* self, G* to, std::uintptr_t release) noexcept {
  if (!to->sp) grt_bind(m->p, to);
#if GRT_ASAN
  if (!to->sp) to->san = nullptr;
  stack::bounds b{};
  if (to == m->g0p) {
    b.low = m->stack_low;
    b.high = m->stack_high;
  } else {
    stack::find(to->stk - 1, b);
  }
  void* parked = self->san;
  bool dies = self == &m->dead;
  if (dies && parked) __lsan_unregister_root_region(parked, fake_stack_bytes(self));
  __sanitizer_start_switch_fiber(dies ? nullptr : &self->san, b.low, static_cast<std::size_t>(b.high - b.low));
  if (!dies && self->san && !parked &&
      self->stk) // its first fake stack, which has frames of the goroutine while it is parked
    __lsan_register_root_region(self->san, fake_stack_bytes(self));
#endif
#if GRT_TSAN
  if (void* dead = m->dead_fiber) {
    m->dead_fiber = nullptr;
    san::destroy_fiber(dead);
  }
  if (self == &m->dead) m->dead_fiber = __tsan_get_current_fiber();
  // A new fiber inherits the history of the fiber that makes it, which would hide races between the two. So
  // maker_fiber, which has no history, makes it.
  if (!to->sp) {
    __tsan_switch_to_fiber(m->maker_fiber, 1);
    stack::bounds t{};
    stack::find(to->stk - 1, t);
    san::forget_accesses(t.low, t.high);
    to->san = san::make_fiber();
  }
  __tsan_switch_to_fiber(to->san, 1);
#endif
  grt_switch(m, self, to, release);
#if GRT_ASAN
  __sanitizer_finish_switch_fiber(self->san, nullptr, nullptr);
#endif
}
#endif

void unlock_far_side(spin_lock& l) noexcept { __atomic_store_n(&l.word, 0, __ATOMIC_RELEASE); } // [SPIN-1]

} // namespace grt

using namespace grt;

extern "C" {
__thread M* grt_tls_m __attribute__((tls_model("initial-exec")));
__thread hold_words grt_tls_hold __attribute__((tls_model("initial-exec"), visibility("default")));

char* grt_bind(P* p, G* g) {
  if (!g->stk) g->stk = stack::get(p->stacks);
  if (bool valgrind = hooks.load(std::memory_order_relaxed) & hook_valgrind; GRT_UNLIKELY(GRT_ASAN || valgrind)) {
    stack::bounds b{};
    stack::find(g->stk - 1, b);
    san::open_window(b.low, g->stk, b.high, valgrind);
  }
  return g->stk;
}

void grt_commit(std::uintptr_t release) {
  auto* r = reinterpret_cast<commit_record*>(release & ~std::uintptr_t{1});
  r->fn(r);
}
}
