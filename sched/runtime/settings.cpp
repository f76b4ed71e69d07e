// sched/runtime/settings.cpp - see settings.hpp.
#include "sched/runtime/settings.hpp"

#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <sys/auxv.h>
#include <system_error>
#include <utility>

#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"
#include "stack/guards.hpp"

namespace grt {

namespace {

[[noreturn]] void bad_setting(const char* name, const char* value, const char* valid) {
  std::fprintf(stderr, "grt: %s=%s is not valid: %s\n", name, value, valid);
  std::_Exit(2);
}

// Parses an unsigned number, optionally followed by K, M or G.
bool parse_size(const char* s, unsigned long long& out) {
  char* end;
  if (*s < '0' || *s > '9') return false;
  errno = 0;
  out = std::strtoull(s, &end, 10);
  unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
  return !errno && !end[shift != 0] && out <= ULLONG_MAX >> shift && (out <<= shift, true);
}

// Parses an unsigned number followed by us, ms or s.
bool parse_time(std::string_view s, std::uint64_t& out_ns) {
  std::uint64_t n = 0, unit = 0;
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), n);
  std::string_view rest = s.substr(static_cast<std::size_t>(end - s.data()));
  for (auto [name, ns] : {std::pair{"us", 1000u}, {"ms", 1000000u}, {"s", 1000000000u}})
    if (rest == name) unit = ns;
  return error == std::errc() && unit && !__builtin_mul_overflow(n, unit, &out_ns);
}

// Parses a value such as GRT_DEBUG=migrate,stall=100ms.
void read_debug(const char* value, settings& s) {
  std::string_view rest = value;
  for (bool more = !rest.empty(); more;) {
    std::size_t comma = rest.find(',');
    std::string_view word = rest.substr(0, comma);
    if ((more = comma != rest.npos)) rest.remove_prefix(comma + 1);
    if (word == "migrate") s.debug_hooks |= hook_migrate;
    else if (!word.starts_with("stall=") || !parse_time(word.substr(6), s.stall_ns) || !s.stall_ns)
      bad_setting("GRT_DEBUG", value, "migrate, stall=TIME with us, ms or s; several with commas between");
  }
}

const char* setting(const char* name) { return getauxval(AT_SECURE) ? nullptr : std::getenv(name); }

} // namespace

settings read_settings(const options& asked) {
  settings r;
  unsigned long long v;
  if (asked.procs > procs_max) throw std::invalid_argument("grt: options::procs is out of range: 0 to 1024");
  r.procs = asked.procs;
  if (const char* s = setting("GRT_PROCS")) {
    if (!parse_size(s, v) || v < 1 || v > procs_max) bad_setting("GRT_PROCS", s, "a number from 1 to 1024");
    r.procs = static_cast<unsigned>(v);
  }
  if (const char* s = setting("GRT_MAX_THREADS")) {
    if (!parse_size(s, v) || v < 2 || v > 1u << 22) bad_setting("GRT_MAX_THREADS", s, "a number from 2 to 4M");
    r.threads_max = static_cast<unsigned>(v);
  }
  if (const char* s = setting("GRT_DEBUG")) read_debug(s, r);
  r.stacks.stack_max = asked.stack_max;
  if (const char* s = setting("GRT_STACK_MAX")) {
    if (!parse_size(s, v) || v < stack::stack_max_least || v > stack::stack_max_most)
      bad_setting("GRT_STACK_MAX", s, "a size from 64K to 8M");
    r.stacks.stack_max = v;
  }
  r.hogs_are_lowered = asked.hogs == hog_policy::nice;
  if (const char* s = setting("GRT_HOGS")) {
    std::string_view policy = s;
    if (policy != "nice" && policy != "equal") bad_setting("GRT_HOGS", s, "nice or equal");
    r.hogs_are_lowered = policy == "nice";
  }
  if (const char* s = setting("GRT_GUARD")) {
    r.stacks.guard = stack::guard_named(s);
    if (r.stacks.guard < 0) bad_setting("GRT_GUARD", s, "madvise, poison, mprotect or canary");
    if (!stack::can_guard(static_cast<stack::guard_kind>(r.stacks.guard)))
      bad_setting("GRT_GUARD", s, "this kernel or this build cannot; mprotect and canary work everywhere");
  }
  return r;
}

} // namespace grt
