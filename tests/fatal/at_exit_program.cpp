// Static objects of a function, made after the runtime, that abandoned goroutines use when main returns: their
// destructors must know that the process ends, however the program is linked (debug/in_exit.cpp).
// at_exit_program return|pthread_exit: how main is left; in the second case a goroutine calls exit().
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <pthread.h>
#include <string_view>

#include <grt/grt.hpp>

struct objects {
  grt::mutex m;
  grt::shared_mutex written, shared;
  grt::wait_group group;
  grt::condition_variable condition;
  grt::mutex of_condition;
  grt::once_flag once;
};

static void use(objects& o) {
  grt::chan<void> ready(8);
  auto abandon = [=] {
    ready.send();
    grt::sleep_for(std::chrono::hours(1));
  };
  o.group.add(1);
  o.of_condition.lock();
  grt::go([&, abandon] {
    o.m.lock();
    o.written.lock();
    o.shared.lock_shared();
    grt::call_once(o.once, abandon);
  });
  grt::go([&, ready] {
    ready.send();
    o.group.wait();
  });
  grt::go([&, ready] {
    ready.send();
    o.condition.wait(o.of_condition);
  });
  for (int i = 0; i < 3; i++) ready.recv();
  o.of_condition.lock(); // the waiter has unlocked it
}

int main(int n, char** arguments) {
  std::signal(SIGUSR1, std::exit); // a program at a fixed address has an address of its own for exit
  grt::set_procs(2);
  static objects o;
  use(o);
  if (n == 2 && arguments[1] == std::string_view("return")) return 0;
  grt::go([] { std::exit(0); });
  pthread_exit(nullptr);
}
