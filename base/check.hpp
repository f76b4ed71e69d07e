// base/check.hpp - two kinds of assertion, and how the library reports a fatal error and ends the process.
//
// GRT_CHECK   In all builds. For corruption after which the program cannot go on. Reports and aborts.
// GRT_DCHECK  In debug builds only (no NDEBUG). For an invariant of the library.
//
// A mistake of the caller raises an exception or returns an error code; it never fails one of these checks.
// A fatal path allocates nothing and takes no lock: it formats into a buffer on the stack and writes to descriptor 2.
#pragma once
#include <atomic>
#include <cstdarg>
#include <cstddef>
#include <cstdint>

namespace grt {

/// A bounded text buffer for fatal paths. It is flushed to `fd` when it is full and at destruction. Async-signal-safe.
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
/// A text_out with room for a whole warning and its stack trace, so that both go out in one write.
class long_text_out : public text_out {
public:
  explicit long_text_out(int fd) noexcept : text_out(fd, buf_, sizeof buf_) {}
  ~long_text_out() { flush(); } // while buf_ still exists

private:
  char buf_[2048];
};

/// Writes the caller's stack, one line per frame, innermost first. A line has the address, and its +offset into the
/// executable in the form that addr2line expects. May be called in a signal handler.
void write_backtrace(int fd) noexcept;
void write_backtrace(text_out& t) noexcept;

// Reports. A process dies with exactly one complete report. Only the thread that holds the claim on the report writes
// text that begins with "grt: fatal:".
/// Acquires the claim for the calling thread. Call it before the first word of a report. If another thread holds the
/// claim, the caller sleeps until that thread has ended the process. If the process is still alive after 10 s, the
/// caller takes the claim over. If the caller holds the claim already, its own report has failed half-way, and it
/// aborts at once. `ask_cause`: also call report_cause. Async-signal-safe.
void claim_report(bool ask_cause = true) noexcept;
/// Releases the claim, because the process goes on after all.
void drop_report() noexcept;
/// Returns whether the calling thread holds the claim.
bool reporting() noexcept;
/// Sleeps while another thread holds the claim, for 10 s at most.
void await_report() noexcept;
/// Null, or a function that the thread that has just acquired the claim calls. It writes what may be the cause of the
/// failure that is about to be reported.
extern std::atomic<void (*)() noexcept> report_cause;

/// Writes "grt: fatal: MESSAGE\n" to stderr and aborts. May be called by any thread in any state, and in a signal
/// handler.
[[noreturn]] void fatal(const char* message) noexcept;
/// The same with a decimal number after the message.
[[noreturn]] void fatal(const char* message, std::uint64_t number) noexcept;
/// True in a forked child of a process in which the runtime ran. Of the parent's threads only the one that called fork
/// exists in the child, so a slow path that finds this set calls die_forked().
extern std::atomic<bool> forked;
[[noreturn]] void die_forked() noexcept;

/// Returns whether the caller runs on its thread's alternate signal stack, that is, in a signal handler or in a
/// function that one has called. Costs a system call. Async-signal-safe.
bool on_signal_stack() noexcept;
/// Reports that a signal handler has called a function that waits. To wait there would corrupt the state of the code
/// that it interrupted. See docs/signals.md.
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
