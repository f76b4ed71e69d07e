// grt-play - launch goroutines and see how they execute.
//
// Every lesson is one file of examples/, linked in with its main renamed. It runs for real, under the event recorder.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <getopt.h>
#include <string>
#include <sys/ioctl.h>
#include <thread>
#include <unistd.h>

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
  // main() counts as a goroutine, as in Go. In a lesson whose main calls grt::run, the goroutine that runs its argument
  // counts in its place. Goroutines that an earlier lesson has left behind exist, too.
  const std::uint64_t main_counts = std::strstr(l.text, "grt::run(") == nullptr;
  const std::uint64_t existed = grt::goroutines() + main_counts;
  grt::debug::metrics before = grt::debug::read_metrics();
  grt::trace::record(picture ? 1 << 18 : 1 << 16);
  auto begin = std::chrono::steady_clock::now();
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> seen{0}; // counts if the recording has lost events
  std::thread sampler([&] {
    while (!over) {
      seen = std::max<std::uint64_t>(seen, grt::goroutines() + main_counts);
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
  f.switches = after.switches - before.switches;
  f.steals = after.steals - before.steals;
  f.wakes = after.wakes - before.wakes;
  f.peak = existed + play::peak(r);
  if (r.lost) f.peak = std::max<std::uint64_t>(play::peak(r), seen);
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

constexpr const char* help = R"(grt-play: launch goroutines and see how they execute
Usage: grt-play [OPTION...] [LESSON]

  LESSON     show its code, run it, draw what happened; without LESSON: the list of lessons
  --all      every lesson
  --short    output and figures only, no code and no picture
  --plain    no colour, ASCII only (the default in a pipe)
  --width N  columns, 40 to 400 (default: the terminal's, or 80)
  --procs N  processors, 1 to 1024 (default: GRT_PROCS, or what the machine has)
  --help     this text
)";

struct command {
  std::string lesson;
  bool all = false, quick = false, plain = false;
  int width = 0, procs = 0; // 0: not given
  int end = -1;             // >= 0: the program ends with this status
};

// `into` gets the number in `text`. Returns 2, after a message, if it is no number of that range.
int number(const char* option, const char* text, int low, int high, int& into) {
  const char* last = text + std::strlen(text);
  auto [at, error] = std::from_chars(text, last, into);
  if (error == std::errc{} && at == last && into >= low && into <= high) return -1;
  return bad(std::string(option) + " '" + text + "' is not valid", std::to_string(low) + " to " + std::to_string(high));
}

command parse(int argc, char** argv) {
  constexpr const char* valid = "[LESSON] --all --short --plain --width N --procs N --help";
  static const option options[] = {{"all", no_argument, nullptr, 'a'},
                                   {"short", no_argument, nullptr, 's'},
                                   {"plain", no_argument, nullptr, 'p'},
                                   {"width", required_argument, nullptr, 'w'},
                                   {"procs", required_argument, nullptr, 'n'},
                                   {"help", no_argument, nullptr, 'h'},
                                   {nullptr, 0, nullptr, 0}};
  command c;
  opterr = 0; // bad() writes the messages
  for (int got; c.end < 0 && (got = getopt_long(argc, argv, ":h", options, nullptr)) != -1;) {
    const std::string given = argv[optind - 1];
    switch (got) {
    case 'a': c.all = true; break;
    case 's': c.quick = true; break;
    case 'p': c.plain = true; break;
    case 'w': c.end = number("--width", optarg, 40, 400, c.width); break;
    case 'n': c.end = number("--procs", optarg, 1, 1024, c.procs); break;
    case 'h':
      std::fputs(help, stdout);
      c.end = 0;
      break;
    case ':': c.end = bad(given + " needs a number", valid); break;
    default: c.end = bad("option '" + given + "' is not valid", valid); break;
    }
  }
  if (c.end < 0 && optind < argc) c.lesson = argv[optind++];
  if (c.end < 0 && optind < argc) c.end = bad("more than one lesson is given", valid);
  return c;
}
} // namespace

int main(int argc, char** argv) {
  command c = parse(argc, argv);
  if (c.end >= 0) return c.end;
  const lesson* one = c.lesson.empty() ? nullptr : find(c.lesson);
  if (!c.lesson.empty() && !one) return bad("no lesson is called '" + c.lesson + "'", names());

  style s;
  s.colour = !c.plain && isatty(1) && !std::getenv("NO_COLOR");
  s.width = c.width ? c.width : std::min(width_of_terminal(), 140);
  if (c.procs) grt::set_procs(static_cast<unsigned>(c.procs));
  if (one) return run(*one, s, !c.quick, !c.quick);
  if (c.all) {
    int failed = 0;
    for (const lesson& l : lessons) failed += run(l, s, !c.quick, !c.quick) != 0;
    return failed != 0;
  }
  std::puts("grt-play LESSON shows its code, runs it, and draws which goroutine ran when and who woke whom.\n");
  for (const lesson& l : lessons) {
    std::printf("  %s\n", play::paint(l.name, "1", s).c_str());
    print_wrapped("   " + title(l), s);
  }
  return 0;
}
