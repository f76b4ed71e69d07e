// sched/goroutine/goexit.cpp - grt::exit: a goroutine leaves from any depth, and its destructors run.
//
// A forced unwind (Itanium C++ ABI, 1.3.4) with an ordinary C++ exception object: no search phase, the personality
// routine runs cleanups and lets only catch (...) and catch (abi::__forced_unwind&) in. Before every frame the unwinder
// asks stop(). grt_gmain, the frame below the goroutine's function, has a handler that only a forced unwind sees; it
// ends the goroutine there (end_unwound). On the way:
//   caught and not rethrown     __cxa_end_catch drops the last handler's hold and calls the object's cleanup: report
//   a noexcept function         the personality or the landing pad calls std::terminate: on_terminate asks terminated()
//   no unwind tables            the unwinder says that the stack ends, short of the first frame: report
// The object is of a class of ours, made by make_exception_ptr, so that the C++ runtime counts its handlers: a foreign
// object, as pthread_cancel's is, may not be caught inside another handler at all (__cxa_begin_catch terminates).
// Rejected: to throw an ordinary exception and catch it in the first frame. An uncaught exception would find a handler,
// and its stack would be gone before the report.
//
// pthread_exit is a forced unwind as well (glibc). It would go on to the end of the stack and then end the thread,
// which is the M's and has a P. The same handler stops it: it ends the goroutine, and the thread stays. Where the
// unwinder cannot get to the handler (a function without unwind tables, a libc that does not unwind), the thread ends;
// the destructor of a thread-specific value sees that and reports. Cancellation is off in threads of the runtime: a
// cancelled thread would be that of whichever goroutine runs there by then.
#include <cstring>
#include <cxxabi.h>
#include <exception>
#include <pthread.h>
#include <stdexcept>
#include <typeinfo>
#include <unwind.h>

#include <grt/go.hpp>

#include "base/check.hpp"
#include "sched/core/sched.hpp"

#if GRT_ASAN
extern "C" void __asan_handle_no_return();
#endif

namespace grt {
namespace {
struct goroutine_exit {};

[[noreturn]] void die(const G* g, const char* how) noexcept {
  report_begin(g, how);
  report_end(g);
}

void swallowed(_Unwind_Reason_Code, _Unwind_Exception*) { die(me()->g, "grt::exit() was caught and not rethrown"); }

// Runs on the goroutine's stack, perhaps on another thread than the last time.
_Unwind_Reason_Code stop(int, _Unwind_Action actions, _Unwind_Exception_Class, _Unwind_Exception*, _Unwind_Context*,
                         void*) {
  if (actions & _UA_END_OF_STACK)
    die(me()->g, "grt::exit() met a function without unwind tables (-fexceptions or -funwind-tables makes them)");
  return _URC_NO_REASON;
}
} // namespace

// The exception itself is left where it is: that of pthread_exit belongs to the thread, and this is its last use.
void end_unwound() noexcept {
  M* m = me();
  *m->eh = {nullptr, 0};
  if (m->g->ext) m->g->ext->exiting = nullptr;
  grt_end();
}

namespace {
// The thread ends, on its own stack. thread_leave() has been called before a thread of the runtime ends as it should.
void thread_ends(void*) {
  M* m = me();
  if (!m) return;
  if (m->g == m->g0p) fatal("a thread of the runtime was ended by pthread_exit() or pthread_cancel()");
  die(m->g, "pthread_exit() met a function without unwind tables (-fexceptions or -funwind-tables makes them)");
}
} // namespace

void watch_thread_end() noexcept {
  static pthread_key_t key;
  static const bool made = pthread_key_create(&key, thread_ends) == 0;
  if (made) pthread_setspecific(key, &key);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
}

void report_begin(const G* g, const char* what) noexcept {
  claim_report();
  text_out t(2);
  say_who(t.str("grt: fatal: "), g).str(": ").str(what);
}

void report_end(const G* g) noexcept {
  text_out(2).str("\n");
  write_backtrace(2);
  text_out t(2);
  say_birth(t, g).flush();
  std::abort();
}

void terminated(M* m) noexcept {
  G* g = m->g;
  if (!g->ext || !g->ext->exiting) return;
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (type && *type != typeid(goroutine_exit) && m->eh->caught != g->ext->caught) return; // a destructor's own trouble
  die(g, "grt::exit() ran into a noexcept function");
}

void exit() {
  M* m = me();
  if (!m) throw std::logic_error("grt::exit() outside a goroutine");
  G* g = m->g;
  if (!g->ext) g->ext = new g_ext;
  if (g->ext->exiting) die(g, "grt::exit() was called by a destructor that an earlier call of it runs");
  g->ext->exiting = std::make_exception_ptr(goroutine_exit{});
  g->ext->caught = m->eh->caught;
  static_assert(sizeof(std::exception_ptr) == sizeof(void*));
  void* object;
  std::memcpy(&object, static_cast<void*>(&g->ext->exiting), sizeof object); // NOLINT: one pointer, says the assertion
  auto* e = static_cast<_Unwind_Exception*>(object) - 1; // Itanium C++ ABI, 2.2.1: the header ends with it
  e->exception_cleanup = swallowed;
  m->eh->uncaught++; // every handler that lets it in takes one off, every rethrow puts it back
#if GRT_ASAN
  __asan_handle_no_return();
#endif
  _Unwind_ForcedUnwind(e, stop, nullptr);
  die(g, "grt::exit() cannot unwind");
}

} // namespace grt
