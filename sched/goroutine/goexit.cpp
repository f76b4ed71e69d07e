// sched/goroutine/goexit.cpp - grt::exit: a goroutine ends from any depth, and its destructors run.
//
// grt::exit is a forced unwind (Itanium C++ ABI, 1.3.4) with an ordinary C++ exception object. A forced unwind has no
// search phase. The personality routine runs cleanups, and only catch (...) and catch (abi::__forced_unwind&) see it.
// The unwinder calls stop() before every frame. grt_gmain, the frame below the goroutine's function, has a handler
// that only a forced unwind sees; it ends the goroutine there (end_unwound). What can go wrong on the way:
//
//   the exception is caught      __cxa_end_catch drops the last handler's reference and calls the object's cleanup
//   and not rethrown             function, which reports
//   a noexcept function          the personality routine or the landing pad calls std::terminate; on_terminate calls
//                                terminated(), which reports
//   no unwind tables             the unwinder says that the stack ends before the first frame; stop() reports
//
// The object is of a class of our own and made by make_exception_ptr, so that the C++ runtime counts its handlers. A
// foreign object, such as that of pthread_cancel, may not be caught inside another handler at all (__cxa_begin_catch
// terminates). Rejected: throwing an ordinary exception and catching it in the first frame. An uncaught exception of
// the program would then find a handler, and its stack would be gone before the report.
//
// pthread_exit is a forced unwind as well (glibc). It would unwind the whole stack and then end the thread, which
// belongs to the M and has a P. The same handler stops it: the goroutine ends, and the thread stays. If the unwinder
// cannot reach the handler (a function without unwind tables, a libc that does not unwind), the thread ends; the
// destructor of a thread-specific value detects that and reports. Cancellation is off in threads of the runtime,
// because it would hit whichever goroutine happens to run on the cancelled thread.
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

// Runs on the goroutine's stack. The thread may be another one at each call.
_Unwind_Reason_Code stop(int, _Unwind_Action actions, _Unwind_Exception_Class, _Unwind_Exception*, _Unwind_Context*,
                         void*) {
  if (actions & _UA_END_OF_STACK)
    die(me()->g, "grt::exit() met a function without unwind tables (-fexceptions or -funwind-tables makes them)");
  return _URC_NO_REASON;
}
} // namespace

// The exception is not freed: that of pthread_exit belongs to the thread, which does not use it again.
void end_unwound() noexcept {
  M* m = me();
  *m->eh = {nullptr, 0};
  if (m->g->ext) m->g->ext->exiting = nullptr;
  grt_end();
}

namespace {
// The destructor of the thread-specific value: this thread ends, and the code runs on the thread's own stack. A
// thread of the runtime that ends normally has called thread_leave() before, so it has no M here.
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
  if (type && *type != typeid(goroutine_exit) && m->eh->caught != g->ext->caught) return; // a destructor's exception
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
  auto* e = static_cast<_Unwind_Exception*>(object) - 1; // Itanium C++ ABI, 2.2.1: the last part of the header
  e->exception_cleanup = swallowed;
  m->eh->uncaught++; // each handler that catches it subtracts one, each rethrow adds one
#if GRT_ASAN
  __asan_handle_no_return();
#endif
  _Unwind_ForcedUnwind(e, stop, nullptr);
  die(g, "grt::exit() cannot unwind");
}

} // namespace grt
