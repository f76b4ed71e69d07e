// debug/modules.cpp - see modules.hpp.
#include "debug/modules.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "debug/peek.hpp"

namespace grt::debug {
namespace {
using header = ElfW(Phdr);
constexpr unsigned headers_max = 64;

// Reads the n program headers at `at` of a module that is loaded `bias` bytes above its link address. Returns true if
// pc lies in one of its segments.
bool read_headers(const char* at, unsigned n, std::uintptr_t bias, std::uintptr_t pc, module& out,
                  std::uintptr_t* dynamic) noexcept {
  out = {};
  out.bias = bias;
  out.low = UINTPTR_MAX;
  bool inside = false;
  header h;
  for (unsigned i = 0; i < n && peek(at + i * sizeof h, &h, sizeof h); i++) {
    std::uintptr_t low = bias + h.p_vaddr, high = low + h.p_memsz;
    if (h.p_type == PT_DYNAMIC && dynamic) *dynamic = low;
    if (h.p_type == PT_GNU_EH_FRAME) out.eh_hdr = low;
    if (h.p_type != PT_LOAD) continue;
    inside |= pc >= low && pc < high;
    out.low = std::min(out.low, low);
    out.high = std::max(out.high, high);
  }
  for (unsigned i = 0; i < n && out.eh_hdr && peek(at + i * sizeof h, &h, sizeof h); i++)
    if (h.p_type == PT_LOAD && out.eh_hdr - bias - h.p_vaddr < h.p_filesz) {
      out.eh_seg_low = bias + h.p_vaddr;
      out.eh_seg_high = out.eh_seg_low + h.p_filesz;
    }
  return inside;
}

// The bias is the address of the program headers, minus the address that the linker gave them. They follow the header
// of the file.
std::uintptr_t program_bias(const char* at, unsigned n) noexcept {
  header h;
  for (unsigned i = 0; i < n && peek(at + i * sizeof h, &h, sizeof h); i++)
    if (h.p_type == PT_LOAD && h.p_offset == 0)
      return reinterpret_cast<std::uintptr_t>(at) - sizeof(ElfW(Ehdr)) - h.p_vaddr;
  return 0;
}

const link_map* first_library(std::uintptr_t dynamic) noexcept {
  ElfW(Dyn) d;
  for (; dynamic && peek(reinterpret_cast<void*>(dynamic), &d, sizeof d) && d.d_tag != DT_NULL; dynamic += sizeof d) {
    r_debug r;
    link_map program;
    if (d.d_tag == DT_DEBUG && peek(reinterpret_cast<void*>(d.d_un.d_ptr), &r, sizeof r) &&
        peek(r.r_map, &program, sizeof program))
      return program.l_next;
  }
  return nullptr;
}

// The two sections of a file that are read: the symbols, and the names of the symbols.
struct symbol_table {
  int fd;
  ElfW(Shdr) symbols{}, names{};

  explicit symbol_table(const char* path) noexcept : fd(open(path, O_RDONLY | O_CLOEXEC)) {}
  ~symbol_table() {
    if (fd >= 0) close(fd);
  }
  symbol_table(const symbol_table&) = delete;
  symbol_table& operator=(const symbol_table&) = delete;

  bool read_at(std::uint64_t at, void* to, std::size_t n) const noexcept {
    return pread(fd, to, n, static_cast<off_t>(at)) == static_cast<ssize_t>(n);
  }
  bool find() noexcept {
    ElfW(Ehdr) file;
    if (fd < 0 || !read_at(0, &file, sizeof file) || std::memcmp(file.e_ident, ELFMAG, SELFMAG) != 0) return false;
    for (unsigned i = 0; i < file.e_shnum; i++) {
      ElfW(Shdr) s;
      if (!read_at(file.e_shoff + i * sizeof s, &s, sizeof s)) return false;
      if (s.sh_type != SHT_SYMTAB && (s.sh_type != SHT_DYNSYM || symbols.sh_size)) continue;
      if (!read_at(file.e_shoff + s.sh_link * sizeof s, &names, sizeof names)) return false;
      symbols = s;
      if (s.sh_type == SHT_SYMTAB) break;
    }
    return symbols.sh_size != 0;
  }
  // Finds the function that contains `address`, an address as the linker assigned it.
  bool function_at(std::uint64_t address, ElfW(Sym) & found) const noexcept {
    ElfW(Sym) some[64];
    for (std::uint64_t at = 0; at < symbols.sh_size; at += sizeof some) {
      std::size_t n = std::min<std::uint64_t>(sizeof some, symbols.sh_size - at);
      if (!read_at(symbols.sh_offset + at, some, n)) return false;
      for (std::size_t i = 0; i < n / sizeof *some; i++) {
        unsigned type = some[i].st_info & 15;
        if ((type == STT_FUNC || type == STT_GNU_IFUNC) && address - some[i].st_value < some[i].st_size) {
          found = some[i];
          return true;
        }
      }
    }
    return false;
  }
};

char* put(char* to, const char* end, const char* s) noexcept {
  while (*s && to + 1 < end) *to++ = *s++;
  *to = 0;
  return to;
}
void put_offset(char* to, const char* end, std::uint64_t v) noexcept {
  char digits[20], *d = digits + sizeof digits - 1;
  *d = 0;
  do *--d = "0123456789abcdef"[v & 15];
  while (v >>= 4);
  put(put(to, end, "+0x"), end, d);
}

void fill(symbolizer::text& t, std::uintptr_t return_address) noexcept {
  t.symbol[0] = t.where[0] = 0;
  module m;
  if (!find_module(return_address - 1, m)) return;
  char path[256] = "/proc/self/exe";
  const char* file = program_invocation_short_name;
  if (m.path) {
    if (!peek_string(m.path, path, sizeof path)) return;
    file = std::strrchr(path, '/');
    file = file ? file + 1 : path;
  }
  std::uint64_t address = return_address - m.bias;
  constexpr std::size_t room = 20; // for the offset
  put_offset(put(t.where, t.where + sizeof t.where - room, file), t.where + sizeof t.where, address);
  symbol_table table(path);
  ElfW(Sym) s;
  char* const name_end = t.symbol + sizeof t.symbol - room;
  if (!table.find() || !table.function_at(address - 1, s)) return;
  ssize_t n = pread(table.fd, t.symbol, static_cast<std::size_t>(name_end - t.symbol) - 1,
                    static_cast<off_t>(table.names.sh_offset + s.st_name));
  if (n < 0) n = 0;
  t.symbol[n] = 0;
  if (t.symbol[0]) put_offset(t.symbol + std::strlen(t.symbol), t.symbol + sizeof t.symbol, address - s.st_value);
}
} // namespace

bool find_module(std::uintptr_t pc, module& out) noexcept {
  auto program = reinterpret_cast<const char*>(getauxval(AT_PHDR));
  unsigned n = std::min<unsigned>(static_cast<unsigned>(getauxval(AT_PHNUM)), headers_max);
  if (!program) return false;
  std::uintptr_t dynamic = 0;
  if (read_headers(program, n, program_bias(program, n), pc, out, &dynamic)) return true;
  link_map l;
  int most = 4096; // the list may turn into anything while it is read, also into a ring
  for (const link_map* at = first_library(dynamic); at && most-- && peek(at, &l, sizeof l); at = l.l_next) {
    ElfW(Ehdr) file;
    auto base = reinterpret_cast<const char*>(l.l_addr);
    if (!peek(base, &file, sizeof file) || std::memcmp(file.e_ident, ELFMAG, SELFMAG) != 0) continue;
    if (!read_headers(base + file.e_phoff, std::min<unsigned>(file.e_phnum, headers_max), l.l_addr, pc, out, nullptr))
      continue;
    out.path = l.l_name;
    return true;
  }
  return false;
}

symbolizer::symbolizer() noexcept {
  void* p = mmap(nullptr, slots * sizeof(entry), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  cache_ = p == MAP_FAILED ? nullptr : static_cast<entry*>(p);
}
symbolizer::~symbolizer() {
  if (cache_) munmap(cache_, slots * sizeof(entry));
}
const symbolizer::text& symbolizer::name(std::uintptr_t pc) noexcept {
  static constexpr text nothing{};
  if (!cache_ || !pc) return nothing;
  entry& e = cache_[pc * 0x9E3779B97F4A7C15u >> 57]; // Fibonacci hashing: the upper 7 bits select one of 128 slots
  if (e.pc != pc) {
    fill(e.said, pc);
    e.pc = pc;
  }
  return e.said;
}

} // namespace grt::debug
