// grt/detail/waiter.hpp - queues of waiting goroutines and threads. Not API.
#pragma once
#include <cstdint>

#include <grt/detail/config.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt {
struct G;

namespace detail {

/// Prepares the calling thread for its first wait: starts the runtime and allocates the thread's record, if necessary.
/// Later waits of this thread cannot throw, so call this before an operation that must not fail half-way. In a
/// goroutine it does nothing. @throws std::system_error no memory, or the runtime cannot start.
void may_wait();

struct select_state;

/// One entry of one queue. It is G::w (channels, mutex, wait_group), or part of a `waiting` record on the waiter's
/// stack (the other synchronisation types), or part of a select_case. A wait allocates nothing for it. The lock of the
/// queue guards all fields.
struct waiter {
  waiter* next;
  waiter* prev;
  void* elem;        // sender: the value to move from; receiver: raw storage, or null; `waiting`: the record itself
  select_state* sel; // null unless this waiter belongs to a select
};

/// A doubly linked FIFO list of waiters.
struct wait_queue {
  waiter* head = nullptr;
  waiter* tail = nullptr;

  bool empty() const noexcept { return !head; }
  void push(waiter* w) noexcept {
    w->next = nullptr;
    w->prev = tail;
    (tail ? tail->next : head) = w;
    tail = w;
  }
  void remove(waiter* w) noexcept {
    (w->prev ? w->prev->next : head) = w->next;
    (w->next ? w->next->prev : tail) = w->prev;
  }
  waiter* pop() noexcept {
    waiter* w = head;
    if (w) {
      head = w->next;
      (head ? head->prev : tail) = nullptr;
    }
    return w;
  }
};

} // namespace detail
} // namespace grt

#pragma GCC visibility pop
