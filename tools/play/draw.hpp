// tools/play/draw.hpp - a recording as a picture for the terminal.
#pragma once
#include <cstdint>
#include <string>

#include <grt/trace.hpp>

namespace play {

struct style {
  bool colour = false; // and block characters
  int width = 80;
};

struct facts {
  double ms = 0;
  unsigned procs = 0;
  std::uint64_t switches = 0, steals = 0, wakes = 0, peak = 0, windows = 0, stack_bytes = 0, memory_bytes = 0;
};

/// One line, at most `width` columns wide if it can: time, switches, steals, peak goroutines, stacks.
std::string summary(const facts& f, const style& s);
/// Goroutines over time, processors over time, who woke whom.
std::string draw(const grt::trace::recording& r, const style& s);
/// By how many goroutines the number of those alive exceeded, at most, the number at the start of the recording.
std::uint64_t peak(const grt::trace::recording& r);
/// Wraps `text` in an ANSI colour if wanted: "1" bold, "2" dim, "31".."36".
std::string paint(const std::string& text, const char* code, const style& s);

} // namespace play
