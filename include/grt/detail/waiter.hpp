// grt/detail/waiter.hpp - what stands in a queue of waiters. Not API.
#pragma once
#include <cstdint>

#include <grt/detail/config.hpp>

namespace grt {
struct G;

namespace detail {

void may_wait(); // takes what a thread of the program's needs to wait. Throws while nothing has been started

struct select_state;

/// One place in one queue. Lives in its G (plain waits), on the waiter's stack (timed waits) or in a select's record;
/// never allocated. All fields under the lock of the queue it stands in.
struct waiter {
  waiter* next;
  waiter* prev;
  void* elem;        // sender: the value to move from; receiver: raw storage to construct into, or null
  select_state* sel; // null: a plain wait, and this waiter is G::w
};

/// Doubly linked FIFO of waiters.
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
