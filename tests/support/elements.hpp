// tests/support/elements.hpp - what is sent through channels under test. Each carries an id and notices when it was
// torn.
#pragma once
#include <algorithm>
#include <atomic>
#include <iterator>
#include <type_traits>
#include <utility>

inline constexpr int no_id = -1, torn_id = -2;

/// 4 KB, the same word all over.
struct large {
  int words[1024];
};

/// Moves only; counted, so that one lost or destroyed twice shows.
class owned {
public:
  explicit owned(int id) noexcept : id_(id) { live++; }
  owned(owned&& o) noexcept : id_(std::exchange(o.id_, no_id)) { live++; }
  owned& operator=(owned&& o) noexcept {
    id_ = std::exchange(o.id_, no_id);
    return *this;
  }
  ~owned() {
    id_ = torn_id;
    live--;
  }
  int id() const noexcept { return id_; }
  static inline std::atomic<long> live{0};

private:
  int id_;
};

template <class T> T make_element(int id) {
  if constexpr (std::is_same_v<T, large>) {
    large x;
    std::fill(std::begin(x.words), std::end(x.words), id);
    return x;
  } else {
    return T(id);
  }
}
inline int id_of(int x) noexcept { return x; }
inline int id_of(const owned& x) noexcept { return x.id(); }
inline int id_of(const large& x) noexcept {
  for (int w : x.words)
    if (w != x.words[0]) return torn_id;
  return x.words[0];
}
