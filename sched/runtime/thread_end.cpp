// sched/runtime/thread_end.cpp - see thread_end.hpp.
#include "sched/runtime/thread_end.hpp"

#include <pthread.h>

namespace grt {
namespace {
struct end_key {
  pthread_key_t key{};
  // The values first: their destructors may wait, for which they need the record that foreign_end() frees.
  bool made = pthread_key_create(&key, [](void*) {
                locals_end();
                foreign_end();
              }) == 0;
};
} // namespace

bool await_thread_end() noexcept {
  static const end_key end;
  return end.made && pthread_setspecific(end.key, &end) == 0;
}

} // namespace grt
