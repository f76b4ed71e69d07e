// sync/context.cpp - the tree of contexts: how a context ends, and how those that wait for its end are told.
//
// Nodes. A node is reference-counted and holds a reference to its parent. That is all for a node that carries a value,
// or is a shield. A cancellable node is also in the list `children` of the nearest cancellable node above it, `up`.
// That list has plain pointers. A `watcher` is an entry in a cancellable node's other list: a wait that the end of the
// context cancels, or a function that it starts. What protects each member:
//   ending::lock  state (writing), watchers, children, orphan; the links of the children; done (writing)
//   creation      up and deadline do not change later. timed changes under the lock if another thread can know the
//                 node, and is read after the end
//   the ender     work; the ender is the thread that ends the node
//
// Lifetime. A node that dies takes itself out of up's list, under up's lock, before its memory is freed. So a thread
// that holds that lock may look at a child. It takes a reference if the count is not 0 yet; 0 means that the child is
// dying and has nobody to tell. The deadline's timer does the same under its wheel's lock. It fires on g0, where
// nothing may be allocated or called. So it starts a goroutine that ends the context, in a slot from the P's own list.
//
// Ending. `state` is set under the lock, and the first thread to set it wins. If there is a done channel, the winner
// closes it and then sets `settled`, under the lock again. Otherwise `settled` is set together with `state`. After
// `settled` nothing enters the lists, so they can be emptied in batches of 64 per hold of the lock. Watchers are called
// under the lock, and their goroutines are made ready after it is released. Children go on a work list of the ender.
// There is no recursion, neither here nor when a chain of nodes dies.
//
// err() and done() agree, and no call waits for that. The done channel exists once it has been asked for. A context
// ends at the moment when its done channel is closed; without one, at the store of `state`. over() tests exactly that:
// `settled`, or `state` and the channel's `closed`. Within one thread:
//   C1  If done() is closed, over() is true. The thread has the channel, which was closed after `state` was set.
//   C2  If over() is true, done() is closed. If over() saw `settled`: that store came after the close. If it saw
//       `closed`: the thread reads that again. If there was no channel, one that is made later is closed from the
//       start.
//   C3  over() is true once a call has failed because of the context, a function of context_after_func runs, or a child
//       has ended because of it. All of these ask over(), or come from the lists, which are emptied, and refuse entry,
//       after `settled`.
//   C4  over() is true once a call of cancel() has returned. A call that did not win closes the channel if the winner
//       has not done so yet.
// Rejected: `state` alone. For a moment after err() reports the end, done() would still be open, against C2.
// Rejected: `settled` alone. For a moment after done() is closed, err() would still be empty, against C1.
// Rejected: to wait between the two. err() would park, and throw without memory.
//
// Orphans. A done channel may outlive its context and its cancel function. If the parent or the timer can still end
// such a node, it becomes an orphan: its last reference belongs to the thread that ends it.
// Rejected: a reference from the parent to each child, as in Go. Go has a garbage collector. Here a context that is
// never cancelled would live as long as its parent, and references in both directions would form loops.
// Rejected: a goroutine per context that waits for the end of the parent.
//
// Lock order: a context, then a wheel, then a waiter queue. Never two contexts.
#include <grt/context.hpp>

#include <utility>

#include "chan/select.hpp"
#include "sched/core/sched.hpp"
#include "sched/goroutine/blocks.hpp"
#include "sched/wait/waiting.hpp"

namespace grt {
namespace detail {
static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ >= 16);

namespace {
constexpr std::int64_t no_deadline = INT64_MAX;
constexpr unsigned batch = 64;

struct cancel_node final : context_node, ending, timer_node {
  cancel_node* up; // the node that has this one as a child, or null
  cancel_node *right = nullptr, *left = nullptr;
  cancel_node *children = nullptr, *work = nullptr;
  std::atomic<chan_core*> done{nullptr};
  std::exception_ptr cause;
  std::int64_t deadline;
  bool linked = false; // under up->lock
  bool timed = false, orphan = false;

  explicit cancel_node(context_node* p) noexcept
      : context_node(kind::cancellable, p, static_cast<ending*>(this)),
        up(p && p->origin ? static_cast<cancel_node*>(p->origin) : nullptr), deadline(up ? up->deadline : no_deadline) {
  }
  static void* operator new(std::size_t bytes) {
    if (void* p = block_take(bytes)) return p;
    throw std::bad_alloc();
  }
  static void operator delete(void* p, std::size_t bytes) noexcept { block_give(p, bytes); }
};
cancel_node* of(ending* e) noexcept { return static_cast<cancel_node*>(e); }

// For a node in a list of plain pointers, under the list's lock. Returns false if the node is dying.
bool take_ref(cancel_node* c) noexcept {
  std::uint32_t n = c->refs.load(std::memory_order_relaxed);
  while (n && !c->refs.compare_exchange_weak(n, n + 1, std::memory_order_relaxed)) {
  }
  return n;
}

void leave_parent(cancel_node* c) noexcept {
  cancel_node* up = c->up;
  queue_guard hold(up->lock);
  if (!c->linked) return;
  c->linked = false;
  (c->left ? c->left->right : up->children) = c->right;
  if (c->right) c->right->left = c->left;
}

// Returns false if up has ended.
bool join_parent(cancel_node* c) noexcept {
  cancel_node* up = c->up;
  queue_guard hold(up->lock);
  if (up->refuses()) return false;
  c->linked = true;
  c->right = up->children;
  if (c->right) c->right->left = c;
  up->children = c;
  return true;
}

void wake_all(G* list) noexcept {
  while (G* g = list) {
    list = g->link;
    if (g->kind == g_kind::prepared) spawn_commit(g->closure);
    else ready_tail(g);
  }
}

void tell_watchers(cancel_node* c) noexcept {
  for (bool more = true; more;) {
    G *list = nullptr, **tail = &list;
    {
      queue_guard hold(c->lock);
      for (unsigned i = 0; i < batch && c->first; i++) {
        watcher* w = c->first;
        c->remove(w);
        if (G* g = w->ended(w)) {
          g->link = nullptr;
          *tail = g;
          tail = &g->link;
        }
      }
      more = c->first;
    }
    wake_all(list);
  }
}

// Moves the children to the work list, with one reference to each.
void take_children(cancel_node* c, cancel_node*& work) noexcept {
  for (bool more = true; more;) {
    queue_guard hold(c->lock);
    for (unsigned i = 0; i < batch && c->children; i++) {
      cancel_node* k = c->children;
      c->children = k->right;
      k->linked = false;
      if (!take_ref(k)) continue;
      k->work = work;
      work = k;
    }
    if ((more = c->children)) c->children->left = nullptr;
  }
}

// Another thread ends the node, or has ended it. C4
void help_to_end(cancel_node* c) noexcept {
  if (!c->over()) chan_close_once(c->done.load(std::memory_order_acquire)); // [CTX-3]
}

// Lock held. Stores the final state. told: there is no watcher to tell. parents: there are children to end.
void settle(cancel_node* c, std::uint32_t why, bool& told, bool& parents) noexcept {
  c->state.store(why | ending::settled, std::memory_order_release); // [CTX-1]
  told = !c->first;
  parents = c->children;
}

void cancel_timer(cancel_node* c) noexcept {
  holding h;
  timer_cancel(c);
}

// The caller holds a reference.
void end_one(cancel_node* c, std::uint32_t why, const std::exception_ptr& cause, cancel_node*& work) noexcept {
  chan_core* done;
  bool told, parents, orphan;
  {
    queue_guard hold(c->lock);
    if (c->state.load(std::memory_order_relaxed)) {
      hold.unlock();
      return help_to_end(c);
    }
    if (cause) c->cause = cause;
    done = c->done.load(std::memory_order_relaxed);
    orphan = c->orphan;
    if (done) c->state.store(why, std::memory_order_release); // [CTX-1]
    else settle(c, why, told, parents);
  }
  if (c->timed) cancel_timer(c);
  if (done) {
    chan_close_once(done);
    queue_guard hold(c->lock);
    settle(c, why, told, parents);
  }
  if (!told) tell_watchers(c);
  if (parents) take_children(c, work);
  if (orphan) context_unref(c);
}

void end(cancel_node* c, std::uint32_t why, const std::exception_ptr& cause) noexcept {
  if (c->state.load(std::memory_order_acquire)) return help_to_end(c); // [CTX-1]
  cancel_node* work = nullptr;
  if (c->up) leave_parent(c);
  end_one(c, why, cause, work);
  while (cancel_node* k = work) {
    work = k->work;
    end_one(k, why, cause, work);
    context_unref(k);
  }
}

void run_deadline(void* closure) {
  auto* c = static_cast<cancel_node*>(spawn_load(closure));
  end(c, ending::timed_out, nullptr);
  context_unref(c);
}

// On g0, inside the bracket, under a wheel's lock.
G* on_deadline(timer_node* n) {
  auto* c = static_cast<cancel_node*>(n);
  void* at = spawn_begin_inside(run_deadline, reinterpret_cast<const void*>(run_deadline), 0, c);
  if (!at) { // no slot is free: try again in a millisecond
    std::uint64_t now = now_ns();
    n->owner.load(std::memory_order_relaxed)->insert(n, add_ns(now, 1000000), now);
    return nullptr;
  }
  if (take_ref(c)) return spawn_fire(at);
  spawn_abort_inside(at);
  return nullptr;
}

// Makes the node an orphan if others hold its done channel and it has not ended: its parent or its timer may still end
// it, and then drops the last reference.
bool becomes_orphan(cancel_node* c) noexcept {
  chan_core* d = c->done.load(std::memory_order_relaxed);
  if (!d || d->refs.load(std::memory_order_relaxed) == 1) return false;
  queue_guard hold(c->lock);
  if (c->state.load(std::memory_order_relaxed)) return false;
  return c->orphan = true;
}

// The caller has the last reference, except for those that a parent or a timer may take meanwhile. Returns false if the
// node lives on.
bool destroy(cancel_node* c) noexcept {
  // After the end nobody takes a new reference, and the ender has one while it works. So a node is alone if it has
  // ended and its count is 1. The count must be read second, otherwise the end could fall between the two reads.
  bool alone = c->over() && c->refs.load(std::memory_order_acquire) == 1; // [CTX-2]
  if (!alone && (c->up || c->timed)) {
    if (becomes_orphan(c)) return false;
    if (c->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return false; // [CTX-2]
    // If the node was ended meanwhile it has already left both, and these calls do nothing.
    if (c->timed) cancel_timer(c);
    if (c->up) leave_parent(c);
  }
  chan_unref(c->done.load(std::memory_order_relaxed));
  delete c;
  return true;
}

cancel_node* make(context_node* parent) {
  auto* c = new cancel_node(parent);
  context_ref(parent);
  c->refs.store(2, std::memory_order_relaxed); // context and cancel_func
  return c;
}

void end_new(cancel_node* c, std::uint32_t why, const std::exception_ptr& cause) noexcept {
  cancel_node* none = nullptr;
  end_one(c, why, cause, none);
}

bool join_or_end(cancel_node* c) noexcept {
  if (!c->up || join_parent(c)) return true;
  end_new(c, c->up->state.load(std::memory_order_acquire) & ~ending::settled, c->up->cause); // [CTX-1]
  return false;
}
} // namespace

void context_unref(context_node* n) noexcept {
  while (n) {
    std::uint32_t r = n->refs.load(std::memory_order_acquire); // [CTX-2] the last one sees what all did
    while (r > 1)
      if (n->refs.compare_exchange_weak(r, r - 1, std::memory_order_acq_rel, std::memory_order_acquire)) // [CTX-2]
        return;
    context_node* parent = n->parent;
    if (n->what == context_node::kind::cancellable) {
      if (!destroy(static_cast<cancel_node*>(n))) return;
    } else if (n->destroy) {
      n->destroy(n);
    } else {
      delete n;
    }
    n = parent;
  }
}

context_node* context_make(context_node* parent) {
  cancel_node* c = make(parent);
  join_or_end(c);
  return c;
}

context_node* context_make(context_node* parent, std::int64_t when_ns) {
  start_runtime();
  cancel_node* c = make(parent);
  if (when_ns >= c->deadline) { // the parent ends first
    join_or_end(c);
    return c;
  }
  c->deadline = when_ns;
  if (!join_or_end(c)) return c;
  std::uint64_t now = now_ns();
  if (when_ns <= static_cast<std::int64_t>(now)) {
    end(c, ending::timed_out, nullptr);
    return c;
  }
  auto when = static_cast<std::uint64_t>(when_ns);
  c->fire = on_deadline;
  {
    // Under the context's lock. Then an ender either sees the timer, or has set `state` and no timer is armed.
    queue_guard hold(c->lock);
    if (c->state.load(std::memory_order_relaxed)) return c;
    c->timed = true;
    timer_arm(c, when, now);
  }
  return c;
}

std::int64_t context_in(std::int64_t ns) noexcept {
  auto now = static_cast<std::int64_t>(now_ns());
  return ns > no_deadline - now ? no_deadline : now + ns;
}

context_node* context_shield(context_node* parent) {
  auto* n = new context_node(context_node::kind::shield, parent, nullptr);
  context_ref(parent);
  return n;
}

void context_cancel(context_node* n) noexcept { end(static_cast<cancel_node*>(n), ending::canceled, nullptr); }
void context_cancel(context_node* n, std::exception_ptr cause) noexcept {
  end(static_cast<cancel_node*>(n), ending::canceled, cause);
}

ending* ending_of(const context& c) noexcept {
  context_node* n = context_access::node(c);
  return n ? n->origin : nullptr;
}

// There is a done channel, because `state` is set and `settled` is not.
bool ending::closed_already() const noexcept {
  return chan_closed(static_cast<const cancel_node*>(this)->done.load(std::memory_order_acquire)); // [CTX-3]
}

// ---- functions to run after the end

struct alignas(16) after_end : watcher {
  std::atomic<std::uint32_t> refs{1};
  std::atomic<bool> pending{false}; // if the context can never end: not yet stopped
  context_node* node = nullptr;     // counted
  void* goroutine = nullptr;        // prepared; under the context's lock
  void (*run)(void*) = nullptr;
  void (*destroy)(void*) = nullptr;

  void* function() noexcept { return this + 1; }
  cancel_node* origin() const noexcept { return node && node->origin ? of(node->origin) : nullptr; }
  void drop_function() noexcept {
    if (auto d = std::exchange(destroy, nullptr)) d(function());
  }
};

namespace {
void call(void* closure) {
  struct holder { // the destructor also runs if the goroutine ends by grt::exit
    after_end* a;
    ~holder() {
      a->drop_function();
      after_end_unref(a);
    }
  } h{static_cast<after_end*>(spawn_load(closure))};
  h.a->run(h.a->function());
}

G* start_function(watcher* w) noexcept {
  void* at = std::exchange(static_cast<after_end*>(w)->goroutine, nullptr);
  return reinterpret_cast<G*>(static_cast<char*>(at) - closure_offset);
}
} // namespace

after_end* after_end_make(std::size_t bytes, void (*run)(void*), void (*destroy)(void*), void*& storage) {
  auto* a = ::new (::operator new(sizeof(after_end) + bytes)) after_end; // 16-byte aligned, as malloc's are
  a->run = run;
  a->destroy = destroy;
  a->ended = start_function;
  storage = a->function();
  return a;
}

void after_end_forget_function(after_end* a) noexcept { a->destroy = nullptr; }

void after_end_arm(after_end* a, context_node* n, const attr* with, const void* site, unsigned line) {
  context_ref(n);
  a->node = n;
  cancel_node* c = a->origin();
  if (!c) return a->pending.store(true, std::memory_order_relaxed);
  start_runtime();
  void* at = spawn_begin_here(call, site, line, with);
  spawn_store(at, a);
  a->refs.fetch_add(1, std::memory_order_relaxed); // for the goroutine
  {
    queue_guard hold(c->lock);
    if (!c->refuses()) {
      a->goroutine = at;
      c->push(a);
      return;
    }
  }
  spawn_commit(at);
}

bool after_end_stop(after_end* a) noexcept {
  cancel_node* c = a->origin();
  if (!c) {
    if (!a->pending.exchange(false, std::memory_order_acq_rel)) return false; // [CTX-4] one caller gets it
    a->drop_function();
    return true;
  }
  void* at;
  {
    queue_guard hold(c->lock);
    if (!a->watching) return false;
    c->remove(a);
    at = std::exchange(a->goroutine, nullptr);
  }
  spawn_abort(at);
  a->drop_function();
  after_end_unref(a); // for the goroutine
  return true;
}

void after_end_ref(after_end* a) noexcept { a->refs.fetch_add(1, std::memory_order_relaxed); }
void after_end_unref(after_end* a) noexcept {
  if (a->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return; // [CTX-4] the last one sees what all did
  a->drop_function();
  context_node* n = a->node;
  a->~after_end();
  ::operator delete(a);
  context_unref(n);
}
} // namespace detail

recv_chan<void> context::done() const {
  if (!n_ || !n_->origin) return nil;
  auto* c = detail::of(n_->origin);
  detail::chan_core* d = c->done.load(std::memory_order_acquire); // [CTX-3]
  if (!d) {
    chan<void> made;
    while (!(d = c->done.load(std::memory_order_acquire))) { // [CTX-3]
      bool over = c->over();
      if (over && !made.closed()) made.close();
      queue_guard hold(c->lock);
      if (c->done.load(std::memory_order_relaxed) || (!over && c->refuses())) continue;
      c->done.store(detail::access::shared(made), std::memory_order_release); // [CTX-3] publishes the channel
    }
  }
  return detail::access::recv_of<void>(d);
}

std::exception_ptr context::cause() const {
  if (!n_ || !n_->origin || !n_->origin->over()) return nullptr;
  if (auto& c = detail::of(n_->origin)->cause) return c;
  return std::make_exception_ptr(std::system_error(err(), "grt: the context has ended"));
}

std::optional<time_point> context::deadline() const {
  if (!n_ || !n_->origin) return std::nullopt;
  std::int64_t ns = detail::of(n_->origin)->deadline;
  if (ns == detail::no_deadline) return std::nullopt;
  return time_point(std::chrono::nanoseconds(ns));
}

} // namespace grt
