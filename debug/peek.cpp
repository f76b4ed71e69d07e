// debug/peek.cpp - reads memory that may be unmapped, by system calls. See peek.hpp.
#include "debug/peek.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace grt::debug {
namespace {
// For systems where process_vm_readv is forbidden (seccomp) or missing (qemu-user). A write(2) to a pipe also makes the
// kernel read memory.
bool peek_by_pipe(const void* from, void* to, std::size_t n) noexcept {
  int fd[2];
  if (pipe2(fd, O_CLOEXEC | O_NONBLOCK)) return false;
  auto wanted = static_cast<long>(n); // less than PIPE_BUF: all of it or nothing
  bool good = syscall(SYS_write, fd[1], from, n) == wanted && syscall(SYS_read, fd[0], to, n) == wanted;
  close(fd[0]);
  close(fd[1]);
  return good;
}
} // namespace

// Raw system calls, because the sanitizers' wrappers check the buffers.
bool peek(const void* from, void* to, std::size_t n) noexcept {
  int error = errno;
  iovec local{to, n}, remote{const_cast<void*>(from), n};
  long got = syscall(SYS_process_vm_readv, getpid(), &local, 1L, &remote, 1L, 0L);
  bool good = got == static_cast<long>(n);
  if (got < 0 && errno != EFAULT) good = peek_by_pipe(from, to, n);
  errno = error;
  return good;
}

// Reads aligned pieces, because a string may end just before a page that cannot be read.
bool peek_string(const char* from, char* to, std::size_t n) noexcept {
  std::size_t at = 0;
  while (at + 1 < n) {
    std::size_t step = std::min<std::size_t>(64 - (reinterpret_cast<std::uintptr_t>(from) + at) % 64, n - 1 - at);
    if (!peek(from + at, to + at, step)) return false;
    if (std::memchr(to + at, 0, step)) return true;
    at += step;
  }
  to[at] = 0;
  return true;
}

} // namespace grt::debug
