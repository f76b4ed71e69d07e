// grt-play - launch goroutines and see how they execute.
//
// Every lesson is one file of examples/, linked in with its main renamed. It runs for real, under the event recorder.
#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <sys/ioctl.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <grt/grt.hpp>

#include "draw.hpp"
#include "lessons.hpp" // generated: struct lesson { const char *name, *text; int (*run)(); }; lessons[]

namespace {
using play::style;

const lesson* find(const std::string& name) {
  for (const lesson& l : lessons)
    if (name == l.name) return &l;
  return nullptr;
}

// The comment a lesson opens with.
std::string title(const lesson& l) {
  std::string out;
  for (const char* at = l.text; !std::strncmp(at, "// ", 3);) {
    const char* end = std::strchr(at, '\n');
    out += (out.empty() ? "" : " ") + std::string(at + 3, end);
    at = end + 1;
  }
  return out;
}

int bad(const std::string& what, const std::string& valid) {
  std::fprintf(stderr, "grt-play: %s; valid: %s\n", what.c_str(), valid.c_str());
  return 2;
}

std::string names() {
  std::string out;
  for (const lesson& l : lessons) out += (out.empty() ? "" : " ") + std::string(l.name);
  return out;
}

// Peak of resident memory since the last call with reset; 0 where /proc does not say.
std::uint64_t memory(const char* key) {
  std::ifstream f("/proc/self/status");
  for (std::string line; std::getline(f, line);)
    if (line.starts_with(key)) return std::strtoull(line.c_str() + std::strlen(key), nullptr, 10) << 10;
  return 0;
}
void forget_peak() { std::ofstream("/proc/self/clear_refs") << 5; }

void print_code(const lesson& l, const style& s) {
  int n = 0;
  const char* at = l.text;
  while (*at) {
    const char* end = std::strchr(at, '\n');
    std::string line(at, end);
    std::printf("%s %s\n", play::paint(std::string(n < 9 ? " " : "") + std::to_string(n + 1), "2", s).c_str(),
                line.starts_with("//") ? play::paint(line, "32", s).c_str() : line.c_str());
    n++;
    at = end + 1;
  }
}

// Wraps at the width, two columns in.
void print_wrapped(const std::string& text, const style& s) {
  std::string line = " ", word;
  auto flush = [&] {
    if (static_cast<int>(line.size() + word.size()) + 1 >= s.width) {
      std::printf("%s\n", line.c_str());
      line = " ";
    }
    line += " " + word;
    word.clear();
  };
  for (char c : text + " ") {
    if (c != ' ') word += c;
    else flush();
  }
  std::printf("%s\n", line.c_str());
}

int run(const lesson& l, const style& s, bool code, bool picture) {
  std::printf("%s\n", play::paint(l.name, "1", s).c_str());
  print_wrapped(title(l), s);
  if (code) {
    std::puts("");
    print_code(l, s);
  }
  std::printf("%s\n", play::paint("  -- output", "2", s).c_str());
  std::fflush(stdout);
  forget_peak();
  std::uint64_t resident = memory("VmRSS:");
  grt::debug::metrics before = grt::debug::read_metrics();
  grt::trace::record(picture ? 1 << 18 : 1 << 16);
  auto begin = std::chrono::steady_clock::now();
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> seen{0}; // where the record is too short for it
  std::thread sampler([&] {
    while (!over) {
      seen = std::max<std::uint64_t>(seen, grt::goroutines());
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
  });
  int status = l.run();
  auto end = std::chrono::steady_clock::now();
  over = true;
  sampler.join();
  grt::trace::recording r = grt::trace::stop_recording();
  grt::debug::metrics after = grt::debug::read_metrics();
  std::uint64_t most = memory("VmHWM:");
  std::fflush(stdout);
  play::facts f;
  f.ms = std::chrono::duration<double, std::milli>(end - begin).count();
  f.procs = grt::procs();
  f.switches = static_cast<std::uint32_t>(after.switches - before.switches);
  f.steals = after.steals - before.steals;
  f.wakes = after.wakes - before.wakes;
  f.peak = r.lost ? std::max<std::uint64_t>(play::peak(r), seen) : play::peak(r);
  f.windows = after.windows;
  f.stack_bytes = grt::debug::stack_bytes();
  f.memory_bytes = most > resident ? most - resident : 0;
  if (picture) std::printf("%s\n%s", play::paint("  -- what happened", "2", s).c_str(), play::draw(r, s).c_str());
  std::printf("%s\n", play::summary(f, s).c_str());
  std::fflush(stdout);
  return status;
}

int width_of_terminal() {
  winsize w{};
  return ioctl(1, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}
} // namespace

int main(int argc, char** argv) {
  std::string name;
  bool all = false, quick = false, plain = false;
  int width = 0;
  unsigned procs = 0;
  CLI::App app{"grt-play: launch goroutines and see how they execute"};
  app.add_option("LESSON", name, "show its code, run it, draw what happened; without one: the list");
  app.add_flag("--all", all, "every lesson");
  app.add_flag("--short", quick, "output and figures only, no code and no picture");
  app.add_flag("--plain", plain, "no colour, ASCII only (the default in a pipe)");
  app.add_option("--width", width, "columns, 40 to 400 (default: the terminal's, or 80)")->check(CLI::Range(40, 400));
  app.add_option("--procs", procs, "processors, 1 to 1024 (default: GRT_PROCS or what the machine has)")
      ->check(CLI::Range(1, 1024));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::string what = e.what();
    for (char& c : what)
      if (c == '\n') c = ' ';
    return bad(what, "[LESSON] --all --short --plain --width N --procs N --help");
  }
  const lesson* one = name.empty() ? nullptr : find(name);
  if (!name.empty() && !one) return bad("no lesson is called '" + name + "'", names());

  style s;
  s.colour = !plain && isatty(1) && !std::getenv("NO_COLOR");
  s.width = width ? width : std::min(width_of_terminal(), 140);
  if (procs) grt::set_procs(procs);
  if (one) return run(*one, s, !quick, !quick);
  if (all) {
    int failed = 0;
    for (const lesson& l : lessons) failed += run(l, s, !quick, !quick) != 0;
    return failed != 0;
  }
  std::puts("grt-play LESSON shows its code, runs it, and draws which goroutine ran when and who woke whom.\n");
  for (const lesson& l : lessons) {
    std::printf("  %s\n", play::paint(l.name, "1", s).c_str());
    print_wrapped("   " + title(l), s);
  }
  return 0;
}
