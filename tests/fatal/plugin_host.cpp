// tests/fatal/plugin_host.cpp - loads plugin.so, uses it, closes it, and does the same again. plugin_host PLUGIN [die]
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <thread>

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

namespace {
bool use(const char* plugin, bool dies) {
  void* lib = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
  if (!lib) return std::fprintf(stderr, "%s\n", dlerror()), false;
  auto sum = reinterpret_cast<int (*)(int)>(dlsym(lib, "plugin_sum"));
  auto leave_running = reinterpret_cast<void (*)()>(dlsym(lib, "plugin_leave_running"));
  auto die = reinterpret_cast<void (*)()>(dlsym(lib, "plugin_die"));
  if (dies) {
    pid_t child = fork();
    if (child == 0) die();
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  }
  int of_a_thread = 0;
  std::thread([&] { of_a_thread = sum(100); }).join();
  int of_main = sum(1000);
  leave_running();
  std::printf("%d %d\n", of_a_thread, of_main);
  // Its goroutines run on, and its threads wake up every few milliseconds: in text that must still be there.
  return of_a_thread == 5050 && of_main == 500500 && dlclose(lib) == 0 && usleep(100000) == 0;
}
} // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fputs("usage: plugin_host PLUGIN [die]\n", stderr), 2;
  if (argc > 2 && !std::strcmp(argv[2], "die")) return use(argv[1], true) ? 0 : 1;
  return use(argv[1], false) && use(argv[1], false) ? 0 : 1;
}
