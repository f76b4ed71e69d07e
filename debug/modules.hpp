// debug/modules.hpp - finds the program or library that contains an address, and the name of the function there.
//
// Everything here is async-signal-safe. dladdr and dl_iterate_phdr are not used, because they take the loader's lock.
// The program headers come from AT_PHDR, and the libraries from the loader's public list, which debuggers read
// (DT_DEBUG). That list may change meanwhile, so it is read through peek(). Functions are looked up in the .symtab of
// the file, or in .dynsym if it has none. .symtab is not in memory, so it is read with open and pread.
#pragma once
#include <cstdint>

#include <grt/detail/config.hpp>

namespace grt::debug {

struct module {
  std::uintptr_t bias = 0, low = 0, high = 0;                 // load minus link address; the range of all segments
  std::uintptr_t eh_hdr = 0, eh_seg_low = 0, eh_seg_high = 0; // .eh_frame_hdr and the segment that it is in, or 0
  const char* path = nullptr;                                 // owned by the loader; null: the program itself
};
bool find_module(std::uintptr_t pc, module& out) noexcept;

/// Finds names for addresses, and remembers recent ones. It maps 40 KB for its lifetime. All calls are
/// async-signal-safe.
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
  /// Names the place of the call that precedes a return address. The result is valid until the next call.
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
