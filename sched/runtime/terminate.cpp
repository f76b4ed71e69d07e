// sched/runtime/terminate.cpp - std::terminate on a goroutine.
//
// The report names the goroutine and the exception, and shows where the exception was thrown.
#include "sched/runtime/terminate.hpp"

#include <cstdlib>
#include <cxxabi.h>
#include <exception>
#include <typeinfo>

#include "sched/core/sched.hpp"
#include "sched/runtime/faults.hpp"

namespace grt {

namespace {
std::terminate_handler terminate_before;

// The stack is intact: there is no handler, so the first phase of the unwinder ended at the first frame and nothing
// was unwound.
[[noreturn]] void on_terminate() {
  M* m = me();
  if (m && m->g != m->g0p) {
    terminated(m);
    if (std::type_info* type = abi::__cxa_current_exception_type()) {
      int status = 0;
      char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
      report_begin(m->g, "uncaught ");
      text_out(2).str(name ? name : type->name());
      try {
        throw;
      } catch (const std::exception& e) {
        text_out(2).str(": ").str(e.what());
      } catch (...) {
      }
      report_end(m->g);
    }
  }
#ifdef __GLIBCXX__
  if (terminate_before == __gnu_cxx::__verbose_terminate_handler) claim_report(); // another handler might not end it
#endif
  if (terminate_before) terminate_before();
  std::abort();
}
} // namespace

void terminate_begin() noexcept { terminate_before = std::set_terminate(on_terminate); }

text_out& say_who(text_out& t, const G* g) {
  t.str("goroutine ").dec(g->id);
  if (g->ext && g->ext->name[0]) t.str(" [").str(g->ext->name).str("]");
  return t;
}
text_out& say_birth(text_out& t, const G* g) {
  t.str("  created at ");
  if (g->line) t.str(static_cast<const char*>(g->site)).str(":").dec(g->line);
  else t.hex(reinterpret_cast<std::uintptr_t>(g->site));
  return t.str("\n");
}

} // namespace grt
