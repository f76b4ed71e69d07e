// debug/unwind.cpp - see unwind.hpp. Sources: "Linux Standard Base Core", 10.6 (.eh_frame, .eh_frame_hdr); DWARF 5, 6.4
// (call frame information).
#include "debug/unwind.hpp"

#include <cstring>

#include "debug/peek.hpp"

namespace grt::debug {
namespace {
#if defined(__x86_64__)
constexpr unsigned n_regs = 17, sp_reg = 7, ra_reg = 16; // DWARF numbers: System V psABI, figure 3.36
constexpr unsigned saved_reg[] = {3, 6, 12, 13, 14, 15};
#else
constexpr unsigned n_regs = 32, sp_reg = 31, ra_reg = 30; // AAPCS64 DWARF, 4.1
constexpr unsigned saved_reg[] = {19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30};
#endif
static_assert(sizeof saved_reg / sizeof *saved_reg == arch::registers::saved_n);

// Removes the signature that a return address may have (-mbranch-protection). hint #7 is xpaclri, which does nothing on
// cores that do not know it.
std::uintptr_t code_address(std::uintptr_t v) noexcept {
#if defined(__aarch64__)
  register std::uintptr_t x30 asm("x30") = v;
  asm("hint #7" : "+r"(x30));
  return x30;
#else
  return v;
#endif
}

enum encoding : unsigned { enc_uleb = 1, enc_u2, enc_u4, enc_u8, enc_sleb = 9, enc_s2, enc_s4, enc_s8 };
constexpr unsigned enc_pcrel = 0x10, enc_datarel = 0x30, enc_indirect = 0x80;

// Reads forward within one segment. Past its end, every read returns 0 and `good` is false.
struct cursor {
  std::uintptr_t at, end;
  bool good = true;

  template <class T> T fixed() noexcept {
    T v{};
    if (at > end || end - at < sizeof v) return good = false, T{};
    std::memcpy(&v, reinterpret_cast<const void*>(at), sizeof v);
    at += sizeof v;
    return v;
  }
  std::uint64_t uleb() noexcept {
    std::uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
      auto b = fixed<std::uint8_t>();
      if (shift < 64) v |= std::uint64_t{b & 127u} << shift;
      if (!(b & 128)) return v;
    }
  }
  std::int64_t sleb() noexcept {
    std::uint64_t v = 0;
    for (unsigned shift = 0;;) {
      auto b = fixed<std::uint8_t>();
      if (shift < 64) v |= std::uint64_t{b & 127u} << shift;
      shift += 7;
      if (b & 128) continue;
      if ((b & 64) && shift < 64) v |= ~std::uint64_t{0} << shift;
      return static_cast<std::int64_t>(v);
    }
  }
  std::uintptr_t value(unsigned format) noexcept { // without the base
    switch (format & 15) {
    case enc_uleb: return uleb();
    case enc_u2: return fixed<std::uint16_t>();
    case enc_u4: return fixed<std::uint32_t>();
    case enc_sleb: return static_cast<std::uintptr_t>(sleb());
    case enc_s2: return static_cast<std::uintptr_t>(fixed<std::int16_t>());
    case enc_s4: return static_cast<std::uintptr_t>(fixed<std::int32_t>());
    default: return fixed<std::uint64_t>();
    }
  }
  std::uintptr_t pointer(unsigned encoded, std::uintptr_t data) noexcept {
    std::uintptr_t base = at, v = value(encoded);
    if (encoded & enc_indirect) good = false; // occurs only for personality routines, which are skipped
    return (encoded & 0x70) == enc_pcrel ? base + v : (encoded & 0x70) == enc_datarel ? data + v : v;
  }
  void skip(std::uint64_t n) noexcept {
    if (at > end || end - at < n) good = false, at = end;
    else at += n;
  }
};

struct rule {
  enum : std::uint8_t { same, undefined, at_cfa, value_of_cfa, in_register } how = same;
  std::int32_t v = 0; // an offset, or a register
};
struct row {
  unsigned cfa_reg = sp_reg;
  std::int64_t cfa_offset = 0;
  rule of[n_regs];
};

// The description of one function (its FDE), together with what it shares with other functions (its CIE).
struct description {
  std::uintptr_t begin = 0, length = 0;
  cursor shared{0, 0}, own{0, 0}; // instructions
  std::uint64_t code_align = 1;
  std::int64_t data_align = 1;
  bool signal_frame = false;
};

bool parse_cie(cursor c, description& d, unsigned& fde_encoding, bool& augmented) noexcept {
  std::uint64_t length = c.fixed<std::uint32_t>();
  if (length == 0xffffffff) length = c.fixed<std::uint64_t>();
  if (!c.good || length > c.end - c.at) return false;
  c.end = c.at + length;
  if (c.fixed<std::uint32_t>() != 0) return false;
  auto version = c.fixed<std::uint8_t>();
  auto text = reinterpret_cast<const char*>(c.at);
  while (c.good && c.fixed<char>()) {
  }
  if (!c.good || (version != 1 && version != 3)) return false;
  d.code_align = c.uleb();
  d.data_align = c.sleb();
  if ((version == 1 ? c.fixed<std::uint8_t>() : c.uleb()) != ra_reg) return false;
  fde_encoding = 0;
  augmented = *text == 'z';
  if (augmented) {
    std::uint64_t n = c.uleb();
    cursor a = c;
    c.skip(n);
    while (*++text) switch (*text) {
      case 'R': fde_encoding = a.fixed<std::uint8_t>(); break;
      case 'L': a.fixed<std::uint8_t>(); break;
      case 'P': a.value(a.fixed<std::uint8_t>()); break;
      case 'S': d.signal_frame = true; break;
      case 'B': break; // AArch64: addresses are signed with the other key
      default: return false;
      }
    if (!a.good) return false;
  } else if (*text) {
    return false;
  }
  d.shared = c;
  return c.good;
}

bool parse_fde(std::uintptr_t at, const module& m, description& d) noexcept {
  cursor c{at, m.eh_seg_high};
  std::uint64_t length = c.fixed<std::uint32_t>();
  if (length == 0xffffffff) length = c.fixed<std::uint64_t>();
  if (!c.good || length > c.end - c.at) return false;
  c.end = c.at + length;
  std::uintptr_t here = c.at;
  std::uintptr_t cie = here - c.fixed<std::uint32_t>();
  unsigned encoding;
  bool augmented;
  if (cie < m.eh_seg_low || cie >= at || !parse_cie({cie, m.eh_seg_high}, d, encoding, augmented)) return false;
  d.begin = c.pointer(encoding, 0);
  d.length = c.value(encoding);
  if (augmented) c.skip(c.uleb());
  d.own = c;
  return c.good;
}

// Searches .eh_frame_hdr, a table that is sorted by the addresses at which functions begin.
bool find_description(std::uintptr_t pc, const module& m, description& d) noexcept {
  if (!m.eh_seg_low) return false;
  cursor c{m.eh_hdr, m.eh_seg_high};
  auto version = c.fixed<std::uint8_t>(), frame_enc = c.fixed<std::uint8_t>(), count_enc = c.fixed<std::uint8_t>(),
       table_enc = c.fixed<std::uint8_t>();
  if (version != 1 || table_enc != (enc_datarel | enc_s4)) return false;
  c.pointer(frame_enc, m.eh_hdr);
  std::uint64_t n = c.pointer(count_enc, m.eh_hdr);
  if (!c.good || !n || n > (c.end - c.at) / 8) return false;
  auto entry = [&](std::uint64_t i, unsigned word) {
    cursor e{c.at + i * 8 + word * 4, c.end};
    return m.eh_hdr + static_cast<std::uintptr_t>(e.fixed<std::int32_t>());
  };
  std::uint64_t low = 0;
  while (n > 1) {
    std::uint64_t half = n / 2;
    if (entry(low + half, 0) <= pc) low += half, n -= half;
    else n = half;
  }
  std::uintptr_t fde = entry(low, 1);
  return fde >= m.eh_seg_low && fde < m.eh_seg_high && parse_fde(fde, m, d) && pc - d.begin < d.length;
}

// Executes instructions up to the row for `pc`. `initial` has the rules that DW_CFA_restore restores; it is null while
// these are being computed. Returns false if an instruction is unknown or makes no sense.
bool execute(cursor c, const description& d, std::uintptr_t pc, row& r, const row* initial) noexcept {
  row remembered[2];
  unsigned depth = 0;
  std::uintptr_t loc = d.begin;
  auto set = [&](std::uint64_t reg, decltype(rule::same) how, std::int64_t v) {
    if (reg < n_regs) r.of[reg] = {how, static_cast<std::int32_t>(v)}; // others: vectors
  };
  auto restore = [&](std::uint64_t reg) {
    if (reg < n_regs) r.of[reg] = initial ? initial->of[reg] : rule{};
  };
  auto scaled = [&](std::uint64_t n) { return static_cast<std::int64_t>(n) * d.data_align; };
  while (c.good && c.at < c.end && loc <= pc) {
    auto op = c.fixed<std::uint8_t>();
    unsigned low = op & 63;
    std::uint64_t reg;
    switch (op & 192 ? op & 192 : op) {
    case 0x40: loc += low * d.code_align; break;                                // advance_loc
    case 0x80: set(low, rule::at_cfa, scaled(c.uleb())); break;                 // offset
    case 0xc0: restore(low); break;                                             // restore
    case 0x00: break;                                                           // nop
    case 0x01: return false;                                                    // set_loc: nobody emits it
    case 0x02: loc += c.fixed<std::uint8_t>() * d.code_align; break;            // advance_loc1
    case 0x03: loc += c.fixed<std::uint16_t>() * d.code_align; break;           // advance_loc2
    case 0x04: loc += c.fixed<std::uint32_t>() * d.code_align; break;           // advance_loc4
    case 0x05: reg = c.uleb(), set(reg, rule::at_cfa, scaled(c.uleb())); break; // offset_extended
    case 0x06: restore(c.uleb()); break;                                        // restore_extended
    case 0x07: set(c.uleb(), rule::undefined, 0); break;                        // undefined
    case 0x08: set(c.uleb(), rule::same, 0); break;                             // same_value
    case 0x09: reg = c.uleb(), set(reg, rule::in_register, static_cast<std::int64_t>(c.uleb())); break;
    case 0x0a: // remember_state
      if (depth == sizeof remembered / sizeof *remembered) return false;
      remembered[depth++] = r;
      break;
    case 0x0b: // restore_state
      if (!depth) return false;
      r = remembered[--depth];
      break;
    case 0x0c: r.cfa_reg = static_cast<unsigned>(c.uleb()), r.cfa_offset = static_cast<std::int64_t>(c.uleb()); break;
    case 0x0d: r.cfa_reg = static_cast<unsigned>(c.uleb()); break;        // def_cfa_register
    case 0x0e: r.cfa_offset = static_cast<std::int64_t>(c.uleb()); break; // def_cfa_offset
    case 0x0f: return false;                                              // def_cfa_expression: PLT stubs
    case 0x10:
    case 0x16: reg = c.uleb(), c.skip(c.uleb()), set(reg, rule::undefined, 0); break;  // expressions
    case 0x11: reg = c.uleb(), set(reg, rule::at_cfa, c.sleb() * d.data_align); break; // offset_extended_sf
    case 0x12: r.cfa_reg = static_cast<unsigned>(c.uleb()), r.cfa_offset = c.sleb() * d.data_align; break;
    case 0x13: r.cfa_offset = c.sleb() * d.data_align; break; // def_cfa_offset_sf
    case 0x14: reg = c.uleb(), set(reg, rule::value_of_cfa, scaled(c.uleb())); break;
    case 0x15: reg = c.uleb(), set(reg, rule::value_of_cfa, c.sleb() * d.data_align); break;
    case 0x2d: break;           // AArch64: negate_ra_state, see code_address
    case 0x2e: c.uleb(); break; // GNU_args_size
    case 0x2f: reg = c.uleb(), set(reg, rule::at_cfa, -scaled(c.uleb())); break;
    default: return false;
    }
  }
  return c.good && r.cfa_reg < n_regs;
}

// Goes one frame up. Returns false if this was the outermost frame, or if the walk cannot go on.
bool step(std::uintptr_t (&regs)[n_regs], std::uintptr_t& pc, const module& m, const stack_view& stack) noexcept {
  description d;
  row initial, r;
  if (!find_description(pc - 1, m, d) || d.signal_frame || !execute(d.shared, d, UINTPTR_MAX, initial, nullptr))
    return false;
  r = initial;
  if (!execute(d.own, d, pc - 1, r, &initial)) return false;
  std::uintptr_t cfa = regs[r.cfa_reg] + static_cast<std::uintptr_t>(r.cfa_offset), up[n_regs];
  if (cfa <= regs[sp_reg] || cfa > stack.high || r.of[ra_reg].how == rule::undefined || r.of[ra_reg].how == rule::same)
    return false; // a caller's frame is above, and a function that has called another has saved its return address
  for (unsigned i = 0; i < n_regs; i++) {
    rule u = r.of[i];
    std::uintptr_t at = cfa + static_cast<std::uintptr_t>(static_cast<std::intptr_t>(u.v));
    up[i] = regs[i];
    if (u.how == rule::at_cfa && !stack_word(stack, at, up[i])) return false;
    if (u.how == rule::value_of_cfa) up[i] = at;
    if (u.how == rule::in_register) up[i] = static_cast<unsigned>(u.v) < n_regs ? regs[u.v] : 0;
  }
  std::memcpy(regs, up, sizeof regs);
  regs[sp_reg] = cfa;
  pc = code_address(up[ra_reg]);
  return pc != 0;
}
} // namespace

bool stack_word(const stack_view& s, std::uintptr_t at, std::uintptr_t& v) noexcept {
  if (at % 8 || at < s.low || at >= s.high || s.high - at < 8) return false;
  auto p = reinterpret_cast<const std::uintptr_t*>(at);
  if (!s.mapped) return peek(p, &v, 8);
  v = racy(*p);
  return true;
}

bool switch_frame(std::uintptr_t sp, const stack_view& s, arch::registers& r) noexcept {
#if defined(__x86_64__)
  constexpr unsigned size = 56, pc_at = 48, at[] = {32, 40, 24, 16, 8, 0}; // rbx rbp r12 r13 r14 r15
#else
  constexpr unsigned size = 160, pc_at = 8, at[] = {16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 0, 8}; // x19 .. x30
#endif
  for (int i = 0; i < arch::registers::saved_n; i++)
    if (!stack_word(s, sp + at[i], r.saved[i])) return false;
  r.sp = sp + size;
  bool good = stack_word(s, sp + pc_at, r.pc);
  r.pc = code_address(r.pc);
  return good;
}

unsigned unwinder::walk(const arch::registers& from, const stack_view& stack, void** frames, unsigned n) noexcept {
  std::uintptr_t regs[n_regs] = {}, pc = from.pc;
  for (int i = 0; i < arch::registers::saved_n; i++) regs[saved_reg[i]] = from.saved[i];
  regs[sp_reg] = from.sp;
  unsigned i = 0;
  while (i < n) {
    if ((pc <= module_.low || pc > module_.high) && !find_module(pc - 1, module_)) {
      module_ = {};
      break;
    }
    frames[i++] = reinterpret_cast<void*>(pc);
    if (!step(regs, pc, module_, stack)) break;
  }
  return i;
}

} // namespace grt::debug
