// tests/chan/model_test.cpp - random programs on channels, judged by a sequential model.
//
// Steps: one operation at a time starts in a goroutine (or thread) of its own, and nothing else is done until everybody
// has either finished or parked. Then the model, thirty lines of queues, must name the same operations as blocked and
// the same results. Crowds: senders, receivers, closers and timers all at once; what each says it did is compared: each
// value once, in order between one sender and one receiver, nothing from a send that failed.
#include "tests/support/fixture.hpp"

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/support/attempt.hpp"
#include "tests/support/elements.hpp"
#include "tests/support/seed.hpp"

namespace {
using namespace grt;
using namespace std::chrono_literals;

template <class T> class ChanModel : public GrtTest {};
using elements = testing::Types<int, large, owned>;
TYPED_TEST_SUITE(ChanModel, elements);

constexpr int wide = 10; // cases of the largest select; the odd ones send
enum class form { plain, attempt, range, select2, select4, select10 };
enum class patience { endless, none, zero, moment, hour };

struct operation {
  form how{};
  patience wait{};
  int chan[wide], id[wide]; // chan -1: a nil channel
  std::atomic<G*> g{nullptr};
  std::atomic<bool> done{false};
  struct result {
    int fired = -1; // no case: default or time-out
    bool threw = false;
    int got = no_id; // a receive from a closed channel gets none
  } real, expected;
  bool torn = false;        // a value that was not sent is no longer what it was
  bool model_done = false;  // the model's opinion
  int model_chan = -1;      // where it was done: any case there in this direction may have
  bool model_sends = false; // fired, if there are several
};

bool sends(int i) { return i % 2; }

template <class T> void perform(operation& o, const std::vector<chan<T>>& c) {
  auto at = [&](int i) { return o.chan[i] < 0 ? chan<T>(nil) : c[o.chan[i]]; };
  auto& r = o.real;
  auto got = [&](int i) { return [&r, i](std::optional<T> v) { r.fired = i, r.got = v ? id_of(*v) : no_id; }; };
  auto sent = [&](int i) { return [&r, i] { r.fired = i; }; };
  std::vector<T> v;
  for (int i = 0; i < wide; i++) v.push_back(make_element<T>(o.id[i]));
  auto select_of = [&](auto&&... last) {
#define GRT_TWO(i) on_recv(at(i), got(i)), on_send(at(i + 1), std::move(v[i + 1]), sent(i + 1))
    if (o.how == form::select2) select(on_recv(at(0), got(0)), std::forward<decltype(last)>(last)...);
    else if (o.how == form::select4) select(GRT_TWO(0), GRT_TWO(2), std::forward<decltype(last)>(last)...);
    else select(GRT_TWO(0), GRT_TWO(2), GRT_TWO(4), GRT_TWO(6), GRT_TWO(8), std::forward<decltype(last)>(last)...);
#undef GRT_TWO
  };
  int only = o.chan[0] >= 0 ? 0 : 1; // of the forms with one case
  try {
    if (o.how == form::plain && sends(only)) at(1).send(std::move(v[1])), sent(1)();
    else if (o.how == form::plain) got(0)(at(0).recv());
    else if (o.how == form::range) {
      got(0)(std::nullopt);
      for (T& x : at(0)) {
        got(0)(std::move(x));
        break;
      }
    } else if (o.how == form::attempt && sends(only)) {
      if (at(1).try_send(std::move(v[1]))) sent(1)();
    } else if (o.how == form::attempt) {
      std::optional<T> x;
      if (at(0).try_recv(x) != recv_result::empty) got(0)(std::move(x));
    } else if (o.wait == patience::endless) select_of();
    else if (o.wait == patience::none) select_of(on_default());
    else if (o.wait == patience::zero) select_of(on_timeout(0ms));
    else if (o.wait == patience::moment) select_of(on_timeout(1h), on_timeout(20us));
    else select_of(on_timeout(1h));
  } catch (const channel_error&) {
    r.threw = true;
  }
  bool by_value = o.how == form::plain;
  for (int i = 1; i < wide; i += 2) {
    if (r.fired == i && !r.threw) continue;
    if (!by_value) o.torn |= id_of(v[i]) != o.id[i];
  }
}

/// Go's rules, one operation at a time.
class model {
public:
  explicit model(std::vector<unsigned> capacities) {
    for (unsigned n : capacities) c.push_back({n, {}, {}, {}, false});
  }
  bool ready(bool send, int ch) const {
    const channel& x = c[ch];
    return x.closed ||
           (send ? x.buffer.size() < x.capacity || !x.receivers.empty() : !x.buffer.empty() || !x.senders.empty());
  }
  void fire(operation& o, int i) { // case i is ready
    channel& x = c[o.chan[i]];
    if (sends(i) && x.closed) return end(o, i, no_id, true);
    if (sends(i) && !x.receivers.empty()) {
      waiter w = x.receivers.front();
      end(*w.o, w.i, o.id[i]);
    } else if (sends(i)) x.buffer.push_back(o.id[i]);
    else {
      int got = no_id;
      if (!x.buffer.empty()) got = x.buffer.front(), x.buffer.pop_front();
      if (!x.senders.empty()) {
        waiter w = x.senders.front();
        int id = w.o->id[w.i];
        end(*w.o, w.i, no_id);
        if (x.capacity) x.buffer.push_back(id);
        else got = id;
      }
      return end(o, i, got);
    }
    end(o, i, no_id);
  }
  void block(operation& o) {
    for (int i = 0; i < wide; i++)
      if (o.chan[i] >= 0) (sends(i) ? c[o.chan[i]].senders : c[o.chan[i]].receivers).push_back({&o, i});
  }
  void close(int ch) {
    channel& x = c[ch];
    x.closed = true;
    while (!x.receivers.empty()) end(*x.receivers.front().o, x.receivers.front().i, no_id);
    while (!x.senders.empty()) end(*x.senders.front().o, x.senders.front().i, no_id, true);
  }
  struct waiter {
    operation* o;
    int i;
  };
  struct channel {
    std::size_t capacity;
    std::deque<int> buffer;
    std::deque<waiter> receivers, senders;
    bool closed;
  };
  std::vector<channel> c;

private:
  void end(operation& o, int i, int got, bool threw = false) {
    for (channel& x : c)
      for (auto* q : {&x.receivers, &x.senders})
        q->erase(std::remove_if(q->begin(), q->end(), [&](waiter& w) { return w.o == &o; }), q->end());
    o.model_done = true;
    o.model_chan = o.chan[i];
    o.model_sends = sends(i);
    o.expected = {i, threw, got};
  }
};

template <class T> class steps {
public:
  explicit steps(std::uint32_t seed) : random_(seed), model_(capacities()) {
    for (auto& x : model_.c) c_.emplace_back(x.capacity);
  }
  void run_program() {
    for (int i = 0; i < 40 && !testing::Test::HasFailure(); i++) step();
    for (std::size_t ch = 0; ch < c_.size(); ch++)
      if (!model_.c[ch].closed) close(static_cast<int>(ch));
    for (auto& o : all_) {
      EXPECT_TRUE(o->done) << "still blocked with every channel closed";
      if (!o->done) std::abort(); // its stack refers to us
    }
    for (std::size_t ch = 0; ch < c_.size(); ch++) {
      std::vector<int> left;
      for (T& v : c_[ch]) left.push_back(id_of(v));
      EXPECT_EQ(left, std::vector<int>(model_.c[ch].buffer.begin(), model_.c[ch].buffer.end()));
    }
    for (std::thread& t : threads_) t.join();
  }

private:
  std::vector<unsigned> capacities() {
    std::vector<unsigned> v;
    for (unsigned n = 1 + below(4); n; n--) v.push_back(below(6));
    return v;
  }
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }
  int a_channel() { return static_cast<int>(below(static_cast<unsigned>(c_.size()))); }

  void step() {
    unsigned what = below(40);
    int ch = a_channel();
    if (what == 0) return close(ch);
    auto& o = *all_.emplace_back(std::make_unique<operation>());
    for (int& x : o.chan) x = -1;
    o.how = what < 16 ? form::plain : what < 24 ? form::attempt : what < 26 ? form::range : form(below(3) + 3);
    if (o.how < form::select2) o.chan[o.how == form::range ? 0 : below(2)] = ch;
    int cases = o.how == form::select2 ? 1 : o.how == form::select4 ? 4 : o.how == form::select10 ? wide : 0;
    for (int i = 0; i < cases; i++)
      if (i == 0 || below(4)) o.chan[i] = a_channel();
    // The same value wherever it sends to the same channel: which of those cases fires is nobody's business.
    for (int i = 0; i < wide; i++) o.id[i] = static_cast<int>(all_.size()) * 8 + o.chan[i] + 1;
    if (cases) o.wait = patience(below(5));
    start(o);
    judge(o);
  }

  void start(operation& o) {
    auto body = [this, &o] {
      o.g.store(self(), std::memory_order_release);
      perform<T>(o, c_);
      o.done.store(true, std::memory_order_release);
    };
    if (below(12) == 0) threads_.emplace_back(body);
    else go(body);
    settle(&o);
  }
  static bool settled(const operation& o) {
    if (o.done.load(std::memory_order_acquire)) return true;
    G* g = o.g.load(std::memory_order_acquire);
    return g && o.wait != patience::moment && rests(g);
  }
  void settle(const operation* first) { // who started goes first: only it wakes others
    while (first && !settled(*first)) yield();
    for (auto& o : all_)
      while (!settled(*o)) yield();
  }

  void judge(operation& o) {
    std::vector<int> ready;
    for (int i = 0; i < wide; i++)
      if (o.chan[i] >= 0 && model_.ready(sends(i), o.chan[i])) ready.push_back(i);
    if (ready.empty()) {
      bool waits = o.how == form::attempt  ? false
                   : o.how < form::select2 ? true
                                           : o.wait == patience::endless || o.wait == patience::hour;
      if (waits) model_.block(o);
      else o.model_done = true;
    } else if (o.done) {
      int fired = o.real.fired;
      if (o.real.threw && fired < 0) // the exception does not say which case it was
        for (int i : ready)
          if (sends(i) && model_.c[o.chan[i]].closed) fired = i;
      if (std::find(ready.begin(), ready.end(), fired) == ready.end())
        ADD_FAILURE() << "fired case " << fired << " was not ready, or a ready one was passed over";
      else model_.fire(o, fired);
    } else ADD_FAILURE() << "blocks, though it is ready";
    compare();
  }
  void close(int ch) {
    bool was = model_.c[ch].closed;
    if (was) {
      EXPECT_THROW(c_[ch].close(), channel_error);
    } else {
      c_[ch].close();
      model_.close(ch);
    }
    settle(nullptr);
    compare();
  }
  void compare() {
    for (std::size_t i = 0; i < all_.size(); i++) {
      operation& o = *all_[i];
      ASSERT_EQ(o.done, o.model_done) << "operation " << i << " of " << all_.size();
      if (!o.done) continue;
      EXPECT_FALSE(o.torn) << "operation " << i;
      EXPECT_EQ(o.real.threw, o.expected.threw) << "operation " << i;
      EXPECT_EQ(o.real.got, o.expected.got) << "operation " << i;
      if (o.real.fired < 0) EXPECT_TRUE(o.expected.fired < 0 || o.expected.threw) << "operation " << i;
      else {
        EXPECT_EQ(o.chan[o.real.fired], o.model_chan) << "operation " << i;
        EXPECT_EQ(sends(o.real.fired), o.model_sends) << "operation " << i;
      }
    }
    for (std::size_t ch = 0; ch < c_.size(); ch++) {
      EXPECT_EQ(c_[ch].size(), model_.c[ch].buffer.size());
      EXPECT_EQ(c_[ch].closed(), model_.c[ch].closed);
    }
  }

  std::mt19937 random_;
  model model_;
  std::vector<chan<T>> c_;
  std::vector<std::unique_ptr<operation>> all_;
  std::vector<std::thread> threads_;
};

TYPED_TEST(ChanModel, StepByStep_TheSameOperationsBlockAndTheOthersEndAlike) {
  for_seeds(scaled(200), [](std::uint32_t seed) {
    grt::run([seed] { steps<TypeParam>(seed).run_program(); });
    EXPECT_EQ(owned::live, 0);
  });
}

// ---- crowds
// An id says who sent it, where, and as its how-manyth there.
int crowd_id(int sender, int ch, int seq) { return sender << 20 | ch << 16 | seq; }

template <class T> class crowd {
public:
  explicit crowd(std::uint32_t seed) : seed_(seed) {
    std::mt19937 random(seed);
    for (int n = 1 + static_cast<int>(random() % 3); n; n--) c_.emplace_back(random() % 6);
    senders_n_ = 1 + static_cast<int>(random() % 5);
    receivers_n_ = 1 + static_cast<int>(random() % 5);
    early_close_ = random() % 3 == 0;
    early_leave_ = random() % 8 == 0;
  }
  void run_program() {
    sent_.resize(2 * senders_n_);
    got_.resize(receivers_n_ + 1);
    std::thread outside; // the last of them are threads
    wait_group senders, receivers, timers;
    for (int s = 0; s < senders_n_; s++) {
      if (s == 4) {
        senders.add(1);
        outside = std::thread([&, s] { send_all(s, timers), senders.done(); });
      } else senders.go([&, s] { send_all(s, timers); });
    }
    for (int r = 0; r < receivers_n_; r++) receivers.go([&, r] { receive_all(r); });
    std::mt19937 random(seed_ + 1);
    if (early_close_) {
      for (unsigned i = random() % 300; i; i--) yield();
    } else {
      senders.wait_for(2ms); // they may wait where nobody receives
      timers.wait_for(1ms);
    }
    for (auto& x : c_) {
      x.close();
      if (random() % 2) yield();
    }
    senders.wait();
    timers.wait();
    receivers.wait();
    if (outside.joinable()) outside.join();
    for (std::size_t ch = 0; ch < c_.size(); ch++)
      for (T& v : c_[ch]) note(receivers_n_, static_cast<int>(ch), std::move(v));
    compare();
  }

private:
  using clock = std::chrono::microseconds;
  void send_all(int s, wait_group& timers) {
    std::mt19937 random(seed_ * 31 + static_cast<unsigned>(s));
    int n = static_cast<int>(c_.size()), seq[4] = {}, timed[4] = {};
    auto made = [&](int ch) { return crowd_id(s, ch, seq[ch]++); };
    for (int i = 0; i < 60; i++) {
      int a = static_cast<int>(random() % n), b = static_cast<int>(random() % n), id = made(a), id2 = made(b);
      T x = make_element<T>(id), y = make_element<T>(id2);
      auto first = [&] { sent_[s].push_back(id); };
      auto second = [&] { sent_[s].push_back(id2); };
      try {
        switch (random() % 7) {
        case 0: c_[a].send(std::move(x)), first(); break;
        case 1:
          if (c_[a].try_send(std::move(x))) first();
          break;
        case 2: select(on_send(c_[a], std::move(x), first), on_send(c_[b], std::move(y), second)); break;
        case 3: select(on_send(c_[a], std::move(x), first), on_default()); break;
        case 4:
          select(on_send(c_[a], std::move(x), first), on_send(c_[b], std::move(y), second),
                 on_timeout(clock(random() % 20)));
          break;
        case 5: yield(); break;
        case 6:
          if (random() % 4) break;
          timers.add(1);
          after_func(clock(random() % 50), [this, &timers, s, a, at = timed[a]++] { // may run beside the next one
            std::vector<int> sent;
            try {
              int id = crowd_id(senders_n_ + s, a, at);
              c_[a].send(make_element<T>(id));
              sent.push_back(id);
            } catch (const channel_error&) {
            }
            {
              std::lock_guard hold(m_);
              for (int id : sent) sent_[senders_n_ + s].push_back(id);
            }
            timers.done();
          });
        }
      } catch (const channel_error&) {
        if (!c_[a].closed() && !c_[b].closed()) ADD_FAILURE() << "threw, but neither is closed";
      }
    }
  }

  void note(int r, int ch, T&& v) {
    int id = id_of(v);
    if (id < 0 || (id >> 16 & 15) != ch) ADD_FAILURE() << "channel " << ch << " gave " << std::hex << id;
    got_[r].push_back(id);
  }
  void receive_all(int r) {
    std::mt19937 random(seed_ * 77 + static_cast<unsigned>(r));
    std::vector<char> over(c_.size());
    int leave_after = early_leave_ ? static_cast<int>(random() % 50) : 1 << 30;
    auto take = [&](int ch) {
      return [&, ch](std::optional<T> v) {
        if (over[ch] && v) ADD_FAILURE() << "a value after the end";
        if (!v && !c_[ch].closed()) ADD_FAILURE() << "an end without a close";
        if (v) note(r, ch, std::move(*v));
        else over[ch] = true;
      };
    };
    auto open = [&](int ch) { return over[ch] ? chan<T>(nil) : c_[ch]; };
    while (leave_after-- > 0 && std::count(over.begin(), over.end(), true) < static_cast<long>(over.size())) {
      int a = static_cast<int>(random() % over.size()), b = static_cast<int>(random() % over.size());
      std::optional<T> v;
      switch (random() % 6) {
      case 0: take(a)(c_[a].recv()); break;
      case 1:
        if (recv_result x = c_[a].try_recv(v); x != recv_result::empty) take(a)(std::move(v));
        else yield();
        break;
      case 2:
        if (!over[a] || !over[b]) select(on_recv(open(a), take(a)), on_recv(open(b), take(b)));
        break;
      case 3: select(on_recv(open(a), take(a)), on_default([] { yield(); })); break;
      case 4: select(on_recv(open(a), take(a)), on_recv(open(b), take(b)), on_timeout(clock(random() % 20))); break;
      case 5:
        for (T& x : c_[a]) {
          take(a)(std::move(x));
          if (random() % 4 == 0) break;
        }
      }
    }
  }

  void compare() {
    std::map<int, int> seen; // id: 1 sent, +2 for each time it was received
    for (auto& list : sent_)
      for (int id : list) seen[id] |= 1;
    for (auto& list : got_) {
      std::map<int, int> last;
      for (int id : list) {
        seen[id] += 2;
        if (id >> 20 >= senders_n_) continue; // timers have no order
        auto [at, fresh] = last.try_emplace(id >> 16, id);
        if (!fresh && at->second >= id) ADD_FAILURE() << std::hex << id << " came after " << at->second;
        at->second = id;
      }
    }
    for (auto [id, n] : seen)
      if (n != 3)
        ADD_FAILURE() << std::hex << id << (n & 1 ? " was sent" : " was not sent") << " and received " << n / 2
                      << " times";
  }

  std::uint32_t seed_;
  std::vector<chan<T>> c_;
  int senders_n_, receivers_n_;
  bool early_close_, early_leave_;
  mutex m_;
  std::vector<std::vector<int>> sent_, got_; // one for each sender, for its timers, for each receiver and the drain
};

TYPED_TEST(ChanModel, Crowds_EachValueOnceAndInOrder) {
  for_seeds(scaled(200), [](std::uint32_t seed) {
    grt::run([seed] { crowd<TypeParam>(seed).run_program(); });
    EXPECT_EQ(owned::live, 0);
  });
}
} // namespace
