// debug/blame.cpp - names a goroutine in the report of another thread. The goroutine may run or end meanwhile.
#include <cstring>

#include "base/check.hpp"
#include "debug/peek.hpp"
#include "sched/core/ports.hpp"
#include "sched/goroutine/g.hpp"

namespace grt {

void say_other(text_out& t, const G* g, bool birth) noexcept {
  using namespace debug;
  if (birth) {
    char file[256];
    const void* site = racy(g->site);
    std::uint32_t line = racy(g->line);
    t.str("  created at ");
    if (line && peek_string(static_cast<const char*>(site), file, sizeof file)) t.str(file).str(":").dec(line);
    else t.hex(reinterpret_cast<std::uintptr_t>(site));
    t.str("\n");
    return;
  }
  t.str("goroutine ").dec(racy(g->id));
  char name[sizeof g_ext::name] = {};
  const g_ext* ext = racy(g->ext);
  if (ext && peek(ext->name, name, sizeof name) && name[0]) t.str(" [").str(name, strnlen(name, sizeof name)).str("]");
}

} // namespace grt
