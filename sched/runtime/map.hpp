// sched/runtime/map.hpp - makes an object that lives as long as the process, on pages of its own.
#pragma once
#include <new>
#include <system_error>

#include <sys/mman.h>

#include "base/san.hpp"

namespace grt {

template <class T> T* map_one() {
  void* p = san::map_quietly(sizeof(T));
  if (p == MAP_FAILED) throw std::system_error(ENOMEM, std::generic_category(), "grt: no memory for a processor");
  san::root_region(p, sizeof(T));
  return new (p) T;
}

} // namespace grt
