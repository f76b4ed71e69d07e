// debug/modules.hpp - which program or library an address lies in, and its name there.
//
// Async-signal-safe: dladdr and dl_iterate_phdr take the loader's lock, so the program headers come from AT_PHDR and
// the libraries from the loader's public list (DT_DEBUG, what a debugger reads), through peek(): it may change
// meanwhile. Functions are looked up in the file's .symtab, which is not in memory, by open and pread; without one, in
// .dynsym.
#pragma once
#include <cstdint>

#include <grt/detail/config.hpp>

namespace grt::debug {

struct module {
  std::uintptr_t bias = 0, low = 0, high = 0;                 // what the linker's addresses were moved by; all segments
  std::uintptr_t eh_hdr = 0, eh_seg_low = 0, eh_seg_high = 0; // .eh_frame_hdr and the segment it stands in, or 0
  const char* path = nullptr;                                 // the loader's; null: the program itself
};
bool find_module(std::uintptr_t pc, module& out) noexcept;

/// Names for addresses; remembers the last ones. 40 KB, mapped while it lives. Every call may be made in a signal
/// handler.
class symbolizer {
public:
  symbolizer() noexcept;
  ~symbolizer();
  symbolizer(const symbolizer&) = delete;
  symbolizer& operator=(const symbolizer&) = delete;

  struct text {
    char symbol[216]; // "_Zsomething+0x1c", mangled; "" if the file has no symbol there
    char where[64];   // "program+0x1234", as addr2line -e program wants it; "" outside of all modules
  };
  /// Of a return address: the call before it counts. Valid until the next call.
  const text& name(std::uintptr_t return_address) noexcept;

private:
  static constexpr unsigned slots = 128;
  struct entry {
    std::uintptr_t pc;
    text said;
  };
  entry* cache_; // null: no memory
};

} // namespace grt::debug
