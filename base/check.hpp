// base/check.hpp - three grades of assertion, and how the library dies.
//
// GRT_CHECK   all builds: corruption, the program cannot go on. Reports and aborts.
// GRT_DCHECK  debug builds (no NDEBUG): an invariant of ours.
// The caller's mistakes are exceptions or error codes, never these.
// A fatal path allocates nothing and takes no lock: it formats into a buffer on the stack and writes to descriptor 2.
#pragma once
#include <atomic>
#include <cstdarg>
#include <cstddef>
#include <cstdint>

namespace grt {

/// A bounded line buffer for fatal paths; async-signal-safe. Flushes to `fd` when full and at destruction.
class text_out {
public:
  explicit text_out(int fd) noexcept : fd_(fd) {}
  ~text_out() { flush(); }
  text_out(const text_out&) = delete;
  text_out& operator=(const text_out&) = delete;
  text_out& str(const char* s) noexcept;
  text_out& str(const char* s, std::size_t n) noexcept;
  text_out& dec(std::uint64_t v) noexcept;
  text_out& hex(std::uint64_t v) noexcept; ///< with 0x
  void flush() noexcept;

private:
  int fd_;
  std::size_t n_ = 0;
  char buf_[512];
};

/// The caller's stack, a line a frame, innermost first: address, and +offset into the executable as addr2line wants it.
/// Signal handlers too.
void write_backtrace(int fd) noexcept;

/// Writes "grt: fatal: MESSAGE\n" to stderr and aborts. Any thread, any state, signal handlers too.
[[noreturn]] void fatal(const char* message) noexcept;
/// The same with a decimal number after the message.
[[noreturn]] void fatal(const char* message, std::uint64_t number) noexcept;
/// This process is a forked child of one in which the runtime ran: of its threads only the caller is left, so whoever
/// finds it set in a slow path says so and aborts.
extern std::atomic<bool> forked;
[[noreturn]] void die_forked() noexcept;
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

} // namespace grt

#define GRT_CHECK(cond, ...)                                                                                           \
  do {                                                                                                                 \
    if (__builtin_expect(!(cond), 0)) ::grt::check_failed(#cond __VA_OPT__(": " __VA_ARGS__), __FILE__, __LINE__);     \
  } while (0)

#ifdef NDEBUG
#define GRT_DCHECK(cond, ...) ((void)0)
#else
#define GRT_DCHECK(cond, ...) GRT_CHECK(cond __VA_OPT__(, ) __VA_ARGS__)
#endif
