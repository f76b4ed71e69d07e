// tests/fatal/plugin_host.cpp - loads plugin.so and uses it. plugin_host PLUGIN [die]
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <thread>

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc < 2) return std::fputs("usage: plugin_host PLUGIN [die]\n", stderr), 2;
  void* lib = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!lib) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  auto sum = reinterpret_cast<int (*)(int)>(dlsym(lib, "plugin_sum"));
  auto leave_running = reinterpret_cast<void (*)()>(dlsym(lib, "plugin_leave_running"));
  auto die = reinterpret_cast<void (*)()>(dlsym(lib, "plugin_die"));
  if (argc > 2 && !std::strcmp(argv[2], "die")) {
    pid_t child = fork();
    if (child == 0) die();
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? 0 : 1;
  }
  int of_a_thread = 0;
  std::thread([&] { of_a_thread = sum(100); }).join();
  int of_main = sum(1000);
  leave_running();
  std::printf("%d %d\n", of_a_thread, of_main);
  return of_a_thread == 5050 && of_main == 500500 ? 0 : 1;
}
