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
  explicit text_out(int fd) noexcept : text_out(fd, own_, sizeof own_) {}
  ~text_out() { flush(); }
  text_out(const text_out&) = delete;
  text_out& operator=(const text_out&) = delete;
  text_out& str(const char* s) noexcept;
  text_out& str(const char* s, std::size_t n) noexcept;
  text_out& dec(std::uint64_t v) noexcept;
  text_out& hex(std::uint64_t v) noexcept; ///< with 0x
  void flush() noexcept;

protected:
  text_out(int fd, char* buf, std::size_t size) noexcept : fd_(fd), buf_(buf), size_(size) {}

private:
  int fd_;
  char* buf_;
  std::size_t size_, n_ = 0;
  char own_[512];
};
/// The same with room for a whole warning and its stack, so that it is one write.
class long_text_out : public text_out {
public:
  explicit long_text_out(int fd) noexcept : text_out(fd, buf_, sizeof buf_) {}
  ~long_text_out() { flush(); } // before the buffer goes

private:
  char buf_[2048];
};

/// The caller's stack, a line a frame, innermost first: address, and +offset into the executable as addr2line wants it.
/// Signal handlers too.
void write_backtrace(int fd) noexcept;
void write_backtrace(text_out& t) noexcept;

// Reports. A process dies of one report, which is whole: every text that begins with "grt: fatal:" is written by the
// thread that holds the claim.
/// Gives the caller the claim; called before the first word of a report. If another thread holds it, the caller sleeps
/// until that thread has ended the process. If the process is still alive after 10 s, the caller takes the claim over.
/// If the caller holds it already, its report has failed on the way: aborts at once. Async-signal-safe.
void claim_report(bool ask_cause = true) noexcept;
/// The process goes on after all.
void drop_report() noexcept;
/// The caller holds the claim.
bool reporting() noexcept;
/// Sleeps as long as another thread holds the claim, 10 s at most.
void await_report() noexcept;
/// Null, or called by the thread that has just taken the claim: writes what may be the cause of all that follows.
extern std::atomic<void (*)() noexcept> report_cause;

/// Writes "grt: fatal: MESSAGE\n" to stderr and aborts. Any thread, any state, signal handlers too.
[[noreturn]] void fatal(const char* message) noexcept;
/// The same with a decimal number after the message.
[[noreturn]] void fatal(const char* message, std::uint64_t number) noexcept;
/// This process is a forked child of one in which the runtime ran: of its threads only the caller is left, so whoever
/// finds it set in a slow path says so and aborts.
extern std::atomic<bool> forked;
[[noreturn]] void die_forked() noexcept;

/// The calling code runs on its thread's alternate signal stack: it is, or is called by, a signal handler. Costs a
/// system call. Async-signal-safe.
bool on_signal_stack() noexcept;
/// A signal handler has called something that waits, and to wait there would corrupt. See docs/signals.md.
[[noreturn]] void die_in_handler() noexcept;
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
