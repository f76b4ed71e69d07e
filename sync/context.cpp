// sync/context.cpp - the tree of contexts: how one ends, and who is told.
//
// Nodes are counted and point at their parents. Values and shields only point; a cancellable node also stands in the
// list of the nearest cancellable one above it, `up`, by a plain pointer. Who touches what:
//   ending::lock   state (writing), watchers, children, orphan; the links of the children; done (writing)
//   creation       up, deadline;  timed: under the lock if anybody else can know the node, read after the end
//   whoever ends   work
// A node that dies takes itself out of up's list, under up's lock, before its memory goes; so whoever holds that lock
// may look at a child, and takes a reference if the count is not 0 yet: 0 means it is just dying and has nobody to
// tell. The deadline's timer does the same under its wheel's lock. It fires on g0, where nothing may be allocated or
// called: it starts a goroutine, in a slot from the processor's own list, that does the ending.
//
// Ending: `state` is set under the lock, and the first one wins. If there is a done channel, the winner closes it and
// sets `settled`, under the lock again; else `settled` comes with `state`. From then on nobody enters the lists, so
// they are emptied in batches of 64 per hold of the lock: watchers are called and their goroutines made ready
// afterwards, children go on a work list of the ender's. No recursion, here or when a chain of nodes dies.
//
// err() and done() agree, and nobody waits for it. The done channel exists once somebody has asked for it. The moment
// of the end is the moment in which it is closed; without one, the store of `state`. over() asks just that: `settled`,
// or `state` and the channel's `closed`. Then, within one thread:
//   C1  done() closed => over(). The thread has the channel, and closed it was after `state` had been set.
//   C2  over() => done() is closed. By `settled`: the store came after the close. By `closed`: the thread reads that
//       again. If there was no channel, one that is made later is closed from the start.
//   C3  A call has failed because of the context, a function of context_after_func runs, or a child has ended by it =>
//       over(). All of these ask over(), or come from the lists, which are emptied and refuse entry after `settled`.
//   C4  A call of cancel() has returned => over(). A call that lost closes the channel if the winner has not yet.
// Rejected: `state` alone (done() is still open for a moment after err() says something: not C2); `settled` alone
// (err() is empty after done() is closed: not C1); to wait between the two (err() would park, and throw without
// memory).
//
// Somebody may keep a done channel longer than its context and the cancel function: such a node, if its parent or timer
// can still end it, becomes an orphan: its last reference goes to whoever ends it.
// Rejected: children that hold a reference from their parent (Go, with a collector: one that nobody cancels would live
// as long as the parent, here also in loops); a goroutine per context that waits for the parent.
// Locks: a context, then a wheel, then a waiter queue; never two contexts.
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
  cancel_node* up; // whose child it is, or null
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

// From a list that keeps plain pointers, under its lock. false: it is dying.
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

// false: up has ended.
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

// Moves the children, a reference each, to the work list.
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

// Somebody ends it, or has. C4
void help_to_end(cancel_node* c) noexcept {
  if (!c->over()) chan_close_once(c->done.load(std::memory_order_acquire)); // [CTX-3]
}

// Lock held. The last state.
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

// On g0, inside, under a wheel's lock.
G* on_deadline(timer_node* n) {
  auto* c = static_cast<cancel_node*>(n);
  void* at = spawn_begin_inside(run_deadline, reinterpret_cast<const void*>(run_deadline), 0, c);
  if (!at) { // no slot to be had: again in a millisecond
    std::uint64_t now = now_ns();
    n->owner.load(std::memory_order_relaxed)->insert(n, add_ns(now, 1000000), now);
    return nullptr;
  }
  if (take_ref(c)) return spawn_fire(at);
  spawn_abort_inside(at);
  return nullptr;
}

// Somebody holds its channel, and its parent or timer may still end it: then the last reference is theirs.
bool becomes_orphan(cancel_node* c) noexcept {
  chan_core* d = c->done.load(std::memory_order_relaxed);
  if (!d || d->refs.load(std::memory_order_relaxed) == 1) return false;
  queue_guard hold(c->lock);
  if (c->state.load(std::memory_order_relaxed)) return false;
  return c->orphan = true;
}

// The caller's is the last reference but for those a parent or a timer may take meanwhile. false: it lives on.
bool destroy(cancel_node* c) noexcept {
  // Of one that has ended nobody takes a reference any more, and whoever ended it had one: but the count must be read
  // after that, or the end falls between the two looks.
  bool alone = c->over() && c->refs.load(std::memory_order_acquire) == 1; // [CTX-2]
  if (!alone && (c->up || c->timed)) {
    if (becomes_orphan(c)) return false;
    if (c->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return false; // [CTX-2]
    // One that was ended meanwhile has left both already.
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
  if (when_ns >= c->deadline) { // the parent's end comes first
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
    // Under the context's lock, so that whoever ends it sees either the timer or that there will be none.
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

// There is a channel: the state without `settled` says so.
bool ending::closed_already() const noexcept {
  return chan_closed(static_cast<const cancel_node*>(this)->done.load(std::memory_order_acquire)); // [CTX-3]
}

// ---- functions to run after the end

struct alignas(16) after_end : watcher {
  std::atomic<std::uint32_t> refs{1};
  std::atomic<bool> pending{false}; // where nothing can end: not yet stopped
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
  struct holder { // also when the goroutine is left by grt::exit
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
  auto* a = ::new (::operator new(sizeof(after_end) + bytes)) after_end; // 16-byte aligned: malloc does no less
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
  a->refs.fetch_add(1, std::memory_order_relaxed); // the goroutine's
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
    if (!a->pending.exchange(false, std::memory_order_acq_rel)) return false; // [CTX-4] one of several callers
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
  after_end_unref(a); // the goroutine's
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
