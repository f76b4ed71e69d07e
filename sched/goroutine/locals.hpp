// sched/goroutine/locals.hpp - the goroutine-local values of one goroutine or foreign thread; see locals.cpp.
#pragma once
#include <cstdint>

#include <grt/local.hpp>

namespace grt {

struct locals {
  struct entry {
    std::uint64_t serial; // of the grt::local that the value belongs to; 0: none
    detail::local_node* node;
  };
  entry* entries = nullptr; // by local_key::slot
  std::uint32_t n = 0;
  detail::local_node* newest = nullptr;

  detail::local_node* find(detail::local_key k) const noexcept {
    return k.slot < n && entries[k.slot].serial == k.serial ? entries[k.slot].node : nullptr;
  }
  void reserve(std::uint32_t slot); // throws std::bad_alloc
  /// Destroys the values, newest first. Values that the destructors make are destroyed in another round, of four
  /// rounds in all. Then frees the table.
  void destroy() noexcept;
};

} // namespace grt
