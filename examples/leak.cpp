// A function that leaks a goroutine, and three ways to prevent that: a buffer with room for the late answer, a done
// channel, or a context. Every waiting call has an overload that takes a context, and a context may have a deadline.
#include <chrono>
#include <cstdio>

#include <grt/grt.hpp>

using namespace std::chrono_literals;

namespace {
int ask(int server) {
  grt::sleep_for(std::chrono::milliseconds(2 * server));
  return server;
}

int first_leaky() {
  grt::chan<int> answers; // the second answer is never received: its sender waits for ever
  for (int s : {1, 2}) grt::go([=] { answers.send(ask(s)); });
  return *answers.recv();
}

int first_buffered() {
  grt::chan<int> answers(2); // room for both answers: no sender waits
  for (int s : {1, 2}) grt::go([=] { answers.send(ask(s)); });
  return *answers.recv();
}

int first_done() {
  grt::chan<int> answers;
  grt::chan<void> done;
  grt::defer release{[&] { done.close(); }}; // tells the late sender to give up
  for (int s : {1, 2}) {
    grt::go([=] { grt::select(grt::on_send(answers, ask(s)), grt::on_recv(done)); });
  }
  return *answers.recv();
}

void answer(const grt::context& ctx, const grt::chan<int>& answers, int server) {
  grt::select(grt::on_send(answers, ask(server)), grt::on_recv(ctx.done()));
}
int first_context() {
  grt::chan<int> answers;
  auto [ctx, cancel] = grt::with_timeout(grt::background(), 1s);
  grt::defer release{cancel};
  for (int s : {1, 2}) grt::go(answer, ctx, answers, s);
  return *answers.recv(ctx); // throws when the deadline has passed
}

void report(const char* name, int (*first)()) {
  std::size_t before = grt::goroutines();
  int winner = first();
  grt::sleep_for(10ms);
  std::printf("%-9s server %d answers first, %zu goroutine(s) left behind\n", name, winner, grt::goroutines() - before);
}
} // namespace

int main() {
  grt::run([] {
    report("leaky:", first_leaky);
    report("buffered:", first_buffered);
    report("done:", first_done);
    report("context:", first_context);
  });
}
