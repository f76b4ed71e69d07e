#include "tests/support/fixture.hpp"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/wait.h>
#include <thread>

#include "tests/debug/dump_text.hpp"
#include "tests/support/said.hpp"
#include "tests/support/waiting.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;
using testing::ExitedWithCode;

struct Dump : GrtTest {};

TEST_F(Dump, OneParagraphAGoroutine_AndOneLineAProcessor) {
  mutex m;
  m.lock();
  wait_group gone;
  gone.go(attr{.name = "locks"}, [&] { std::scoped_lock hold(m); });
  std::string p;
  for (int i = 0; i < 10000 && p.find("[mutex]") == std::string::npos; i++) {
    sleep_for(1ms);
    p = paragraph(dump_text(), "goroutine ");
  }
  char object[64];
  std::snprintf(object, sizeof object, "\"locks\" [mutex] on %p for ", static_cast<void*>(&m));
  EXPECT_NE(p.find(object), std::string::npos) << p;
  EXPECT_NE(p.find("created at "), std::string::npos) << p;
  std::string all = dump_text();
  for (unsigned i = 0; i < procs(); i++)
    EXPECT_NE(all.find("\nprocessor " + std::to_string(i)), std::string::npos) << all;
  m.unlock();
  gone.wait();
}

TEST_F(Dump, IntoNowhereDoesNothing) {
  debug::dump(-1);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_NONBLOCK), 0);
  close(ends[0]);
  std::signal(SIGPIPE, SIG_IGN);
  debug::dump(ends[1]);
  std::signal(SIGPIPE, SIG_DFL);
  close(ends[1]);
}

// How much stack it takes, by painting one.
TEST_F(Dump, NeedsLittleStack) {
#ifndef GRT_TEST_SANITIZED
  run([] {}); // there is a runtime to be dumped
  constexpr std::size_t size = 256 << 10;
  auto* low =
      static_cast<unsigned char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::memset(low, 0xA5, size);
  stack_t before, s{};
  s.ss_sp = low;
  s.ss_size = size;
  sigaltstack(&s, &before);
  struct sigaction a {
  }, old;
  a.sa_handler = [](int) { debug::dump(open("/dev/null", O_WRONLY | O_CLOEXEC)); };
  a.sa_flags = SA_ONSTACK;
  sigaction(SIGUSR1, &a, &old);
  std::thread parked([] { select(on_timeout(50ms)); });
  std::this_thread::sleep_for(10ms);
  raise(SIGUSR1);
  parked.join();
  sigaction(SIGUSR1, &old, nullptr);
  sigaltstack(&before, nullptr);
  std::size_t untouched = 0;
  while (untouched < size && low[untouched] == 0xA5) untouched++;
  munmap(low, size);
  RecordProperty("bytes", static_cast<int>(size - untouched));
  EXPECT_LT(size - untouched, 12u << 10) << "with the kernel's signal frame, up to 4 KB";
#endif
}

// ---- SIGQUIT, in children: the runtime looks at its disposition when it starts.
struct Sigquit : OwnProcess<> {};
TEST_F(Sigquit, Dumps_AndTheProgramGoesOn) {
  EXPECT_EXIT(
      {
        chan<int> c;
        go(attr{.name = "bystander"}, [=] { c.recv(); });
        await_waiting(1, "chan receive");
        raise(SIGQUIT);
        c.send(1);
        raise(SIGQUIT);
        std::exit(4);
      },
      ExitedWithCode(4), "goroutine [0-9]+ \"bystander\" .chan receive.*processor 0.*processor 0");
}
TEST_F(Sigquit, WhileTheMainThreadWaits) {
#if !GRT_DETAIL_TSAN // it delivers signals when a thread makes a system call that it knows
  EXPECT_EXIT(
      {
        run([] {}); // the handler is there
        said so_far;
        chan<void> c;
        std::thread other([&, c] {
          await_waiting(1, "chan receive");
          while (dump_text().find("[wait group]") == std::string::npos) std::this_thread::sleep_for(1ms); // main
          kill(getpid(), SIGQUIT);
          so_far.await("\nprocessor "); // they stand at its end
          c.send();
        });
        run([=] { c.recv(); });
        other.join();
        so_far.show();
        std::exit(5);
      },
      ExitedWithCode(5), "thread [0-9]+ .wait group.*goroutine [0-9]+ .chan receive");
#endif
}
TEST_F(Sigquit, IsLeftToAProgramThatHandlesIt) {
  EXPECT_EXIT(
      {
        std::signal(SIGQUIT, [](int) { _exit(6); });
        run([] {});
        raise(SIGQUIT);
        std::exit(7);
      },
      ExitedWithCode(6), "^$");
}
TEST_F(Sigquit, IsLeftToAProgramThatIgnoresIt) {
  EXPECT_EXIT(
      {
        std::signal(SIGQUIT, SIG_IGN);
        run([] {});
        raise(SIGQUIT);
        std::exit(8);
      },
      ExitedWithCode(8), "^$");
}
} // namespace
