// tests/support/threads.hpp - what the kernel says of the threads of this process.
#pragma once
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <pthread.h>
#include <string>
#include <unistd.h>
#include <vector>

/// Bit n - 1 for signal n, as in /proc/self/status. Without the two that the C library keeps for itself.
inline std::uint64_t bits_of(const sigset_t& set) {
  std::uint64_t bits = 0;
  for (int sig = 1; sig <= 64; sig++)
    if (sig != 32 && sig != 33 && sigismember(&set, sig) == 1) bits |= std::uint64_t{1} << (sig - 1);
  return bits;
}
inline std::uint64_t own_mask() {
  sigset_t set;
  pthread_sigmask(SIG_SETMASK, nullptr, &set);
  return bits_of(set);
}
/// The masks of all threads with that name: "grt" runs goroutines, "grt-sysmon" does not.
inline std::vector<std::uint64_t> masks_of(const std::string& name) {
  std::vector<std::uint64_t> all;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string line;
    std::ifstream comm(task.path() / "comm");
    if (!std::getline(comm, line) || line != name) continue;
    std::ifstream status(task.path() / "status");
    while (std::getline(status, line))
      if (line.starts_with("SigBlk:"))
        all.push_back(std::stoull(line.substr(7), nullptr, 16) & ~(std::uint64_t{3} << 31));
  }
  return all;
}
/// What sysmon blocks: all but faults, and what nobody can block.
inline std::uint64_t all_but_faults() {
  sigset_t set;
  sigfillset(&set);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGKILL, SIGSTOP})
    sigdelset(&set, fault);
  return bits_of(set);
}
/// Returns when all threads with that name have this mask. One that starts or ends blocks all signals for a moment.
inline void await_masks([[maybe_unused]] const std::string& name, [[maybe_unused]] std::uint64_t mask) {
#ifndef GRT_TEST_EMULATED // qemu-user keeps the masks of its threads to itself
  auto differs = [&] {
    for (std::uint64_t m : masks_of(name))
      if (m != mask) return true;
    return false;
  };
  while (differs()) usleep(1000);
#endif
}
