// debug/in_exit.cpp - finds out whether the caller runs within exit(3).
//
// This is called only before misuse in a destructor is reported, so it may cost a walk up the stack. A frame of exit is
// recognized by its address, which is all that a stripped static program has, or by its name in the C library's
// symbols. The name is tried last, because it is read from a file. The address alone would not do: if a program at a
// fixed address takes the address of exit itself, it gets the address of a stub.
// Rejected: a handler of atexit, because objects made after the runtime are destroyed before it runs.
// Rejected: a thread_local object. Its destructor runs first in exit, but also when a thread ends.
#include <cstdlib>
#include <cstring>
#include <unwind.h>

#include "arch/arch.hpp"
#include "debug/modules.hpp"
#include "debug/unwind.hpp"
#include "sched/core/ports.hpp"

namespace grt {

GRT_NOINLINE bool stack_is_in_exit() noexcept {
  constexpr unsigned most = 1024;
  static constexpr const char* names[] = {"exit+", "__GI_exit+", "__run_exit_handlers+"};
  arch::registers here{};
  arch::capture(here);
  void* frames[most];
  debug::unwinder u;
  unsigned n = u.walk(here, {here.sp, here.sp + (8 << 20), false}, frames, most);
  for (unsigned i = 0; i < n; i++)
    if (_Unwind_FindEnclosingFunction(static_cast<char*>(frames[i]) - 1) == reinterpret_cast<void*>(&std::exit))
      return true;
  debug::symbolizer s;
  for (unsigned i = n; i-- > 0;) { // exit is near the outermost frame
    const char* name = s.name(reinterpret_cast<std::uintptr_t>(frames[i])).symbol;
    for (const char* of_exit : names)
      if (!std::strncmp(name, of_exit, std::strlen(of_exit))) return true;
  }
  return false;
}

} // namespace grt
