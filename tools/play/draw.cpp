// tools/play/draw.cpp - see draw.hpp.
#include "draw.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <vector>

namespace play {
namespace {
using grt::trace::event;
using grt::trace::kind;
using grt::trace::recording;

constexpr std::size_t rows_max = 14, pairs_max = 8;
constexpr char absent = 0, waiting = 1, ready = 2, running = 3; // running + processor

struct life { // of one goroutine
  std::uint64_t since = 0;
  char state = absent;
  std::uint32_t line = 0, why = 0;
  std::uint64_t runs = 0, first = ~std::uint64_t{0};
  std::vector<unsigned char> cells;
};

std::string format(const char* f, auto... v) {
  char line[256];
  std::snprintf(line, sizeof line, f, v...);
  return line;
}

std::string bytes(std::uint64_t n) {
  if (n < 10 << 10) return format("%llu B", static_cast<unsigned long long>(n));
  if (n < std::uint64_t{10} << 20) return format("%llu KB", static_cast<unsigned long long>(n >> 10));
  return format("%llu MB", static_cast<unsigned long long>(n >> 20));
}

std::string duration(double us) {
  if (us < 1000) return format(us < 10 ? "%.1f us" : "%.0f us", us);
  if (us < 1e6) return format("%.1f ms", us / 1000);
  return format("%.2f s", us / 1e6);
}

class picture {
public:
  picture(const recording& r, const style& s) : style_(s) {
    columns_ = static_cast<std::size_t>(std::max(s.width - label - 3, 10));
    begin_ = r.events.front().ns;
    end_ = std::max(r.events.back().ns, begin_ + columns_);
    busy_.assign(std::max(r.procs, 1u), std::vector<double>(columns_, 0));
    for (const event& e : r.events) take(e);
    for (auto& [id, l] : lives_) fill(l, end_);
  }

  std::string goroutines() const {
    std::string out =
        "  " + paint("goroutines", "1", style_) +
        format("  one column is %s; ",
               duration(static_cast<double>(end_ - begin_) / 1000.0 / static_cast<double>(columns_)).c_str());
    out += style_.colour
               ? "block: runs, " + paint("─", "33", style_) + " ready, " + paint("·", "2", style_) + " waits\n"
               : "digit: runs on that P, - ready, . waits\n";
    std::size_t shown = 0;
    for (auto& [id, l] : lives_) {
      if (shown++ == rows_max) break;
      std::string name = l.line ? format("  G%-5llu line %-4u ", static_cast<unsigned long long>(id), l.line)
                                : format("  G%-15llu ", static_cast<unsigned long long>(id));
      out += name.substr(0, label) + " " + cells(l) + "\n";
    }
    if (lives_.size() > rows_max) out += format("  ... and %zu more\n", lives_.size() - rows_max);
    return out;
  }

  std::string processors() const {
    std::string out = "  " + paint("processors", "1", style_) + "\n";
    double column_ns = static_cast<double>(end_ - begin_) / static_cast<double>(columns_);
    for (std::size_t p = 0; p < busy_.size() && p < rows_max; p++) {
      double total = 0;
      std::string bar;
      for (double ns : busy_[p]) {
        total += ns;
        int eighths = std::clamp(static_cast<int>(ns / column_ns * 8 + (ns > 0 ? 0.999 : 0)), 0, 8);
        static const char* blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
        bar += style_.colour ? blocks[eighths] : std::string(1, " .:-=+*##"[eighths]);
      }
      out += format("  P%-4zu busy %5.1f %%", p, 100 * total / static_cast<double>(end_ - begin_)).substr(0, label) +
             " " + paint(bar, hue(p), style_) + "\n";
    }
    return out;
  }

  std::string wakes() const {
    std::vector<std::pair<std::uint64_t, const std::pair<const pair, std::uint64_t>*>> order;
    for (auto& w : wakes_) order.push_back({w.second, &w});
    if (order.empty()) return "";
    std::stable_sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.first > b.first; });
    std::string out = "  " + paint("who woke whom", "1", style_) + "\n";
    for (std::size_t i = 0; i < order.size() && i < pairs_max; i++) {
      const pair& w = order[i].second->first;
      std::string who = w.by ? format("G%llu", static_cast<unsigned long long>(w.by)) : "thread or timer";
      out += format("  %15s -> G%-7llu %7llu x  from %s\n", who.c_str(), static_cast<unsigned long long>(w.g),
                    static_cast<unsigned long long>(order[i].first),
                    to_string(static_cast<grt::trace::wait_reason>(w.why)));
    }
    if (order.size() > pairs_max) out += format("  ... and %zu more pairs\n", order.size() - pairs_max);
    return out;
  }

private:
  static constexpr int label = 20;
  struct pair {
    std::uint64_t by, g;
    std::uint32_t why;
    auto operator<=>(const pair&) const = default;
  };
  static const char* hue(std::size_t p) {
    static const char* codes[] = {"32", "36", "35", "34", "33", "31"};
    return codes[p % 6];
  }

  std::size_t column(std::uint64_t ns) const {
    return std::min(static_cast<std::size_t>((ns - begin_) * columns_ / (end_ - begin_)), columns_ - 1);
  }

  // The state since l.since lasts until `now`; in a column the busiest state wins.
  void fill(life& l, std::uint64_t now) {
    if (l.state == absent) return;
    if (l.cells.empty()) l.cells.assign(columns_, 0);
    std::size_t from = column(l.since), to = column(now);
    for (std::size_t c = from; c <= to; c++) l.cells[c] = std::max(l.cells[c], static_cast<unsigned char>(l.state));
    if (l.state < running) return;
    auto p = static_cast<std::size_t>(l.state - running);
    if (p >= busy_.size()) return;
    double width = static_cast<double>(end_ - begin_) / static_cast<double>(columns_);
    for (std::size_t c = from; c <= to; c++) {
      double lo = static_cast<double>(begin_) + width * static_cast<double>(c);
      busy_[p][c] +=
          std::max(0.0, std::min(lo + width, static_cast<double>(now)) - std::max(lo, static_cast<double>(l.since)));
    }
  }

  void become(life& l, char state, std::uint64_t now) {
    fill(l, now);
    l.state = state;
    l.since = now;
  }

  void take(const event& e) {
    if (!e.g) return;
    if (lives_.size() > 4096 && !lives_.count(e.g)) return; // a picture of the first ones is enough
    life& l = lives_[e.g];
    switch (e.what) {
    case kind::spawn:
      l.line = e.arg;
      become(l, ready, e.ns);
      break;
    case kind::run: become(l, static_cast<char>(running + std::min(e.p, 100u)), e.ns); break;
    case kind::yield: become(l, ready, e.ns); break;
    case kind::park:
      l.why = e.arg;
      become(l, waiting, e.ns);
      break;
    case kind::ready:
      wakes_[{e.other, e.g, l.why}]++;
      become(l, ready, e.ns);
      break;
    case kind::exit: become(l, absent, e.ns); break;
    default: break;
    }
  }

  std::string cells(const life& l) const {
    std::string out;
    for (std::size_t c = 0; c < l.cells.size(); c++) {
      int v = l.cells[c];
      if (v == absent) out += ' ';
      else if (v == waiting) out += style_.colour ? paint("·", "2", style_) : ".";
      else if (v == ready) out += style_.colour ? paint("─", "33", style_) : "-";
      else
        out += style_.colour ? paint("█", hue(static_cast<std::size_t>(v - running)), style_)
                             : std::string(1, static_cast<char>('0' + (v - running) % 10));
    }
    while (!style_.colour && !out.empty() && out.back() == ' ') out.pop_back();
    return out;
  }

  style style_;
  std::size_t columns_;
  std::uint64_t begin_, end_;
  std::map<std::uint64_t, life> lives_;
  std::map<pair, std::uint64_t> wakes_;
  std::vector<std::vector<double>> busy_;
};
} // namespace

std::string paint(const std::string& text, const char* code, const style& s) {
  return s.colour ? std::string("\x1b[") + code + "m" + text + "\x1b[0m" : text;
}

std::uint64_t peak(const recording& r) {
  std::int64_t now = 0, most = 0; // now falls below 0 when goroutines end that began before the recording
  for (const event& e : r.events) {
    if (e.what == kind::spawn) most = std::max(most, ++now);
    if (e.what == kind::exit) now--;
  }
  return static_cast<std::uint64_t>(most);
}

std::string summary(const facts& f, const style& s) {
  auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
  std::string out = format("  %s on %u P, %llu switches, %llu steals, %llu wakes\n", duration(f.ms * 1000).c_str(),
                           f.procs, n(f.switches), n(f.steals), n(f.wakes));
  out += format("  peak %llu goroutine%s; stacks: %s in %llu window%s; memory +%s\n", n(f.peak), f.peak == 1 ? "" : "s",
                bytes(f.stack_bytes).c_str(), n(f.windows), f.windows == 1 ? "" : "s", bytes(f.memory_bytes).c_str());
  return paint(out, "2", s);
}

std::string draw(const recording& r, const style& s) {
  if (r.events.empty()) return "  nothing was recorded\n";
  picture p(r, s);
  std::string out = p.goroutines() + p.processors() + p.wakes();
  if (r.lost)
    out += format("  drawn: the last %zu events; %llu older ones did not fit\n", r.events.size(),
                  static_cast<unsigned long long>(r.lost));
  return out;
}

} // namespace play
