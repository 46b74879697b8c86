// Lists of templates over the computing type: they register formulas, and an entry's position is
// its index in the tables. And lists of a struct's members.
#pragma once
#include <type_traits>

#include "hd.h"

ONEPASS_BEGIN

template <template <class> class... A>
struct List {};

template <template <class> class... A>
constexpr int count_of(List<A...>) {
  return int(sizeof...(A));
}

// Whether the header of a formula is included here; a list knows the others by name alone.
template <class A, class = void>
constexpr bool is_defined = false;
template <class A>
constexpr bool is_defined<A, std::void_t<decltype(sizeof(A))>> = true;

template <template <class> class A, template <class> class Head, template <class> class... Tail>
constexpr int32_t index_in(List<Head, Tail...>) {
  if constexpr (std::is_same_v<A<float>, Head<float>>) {
    return 0;
  } else {
    return 1 + index_in<A>(List<Tail...>{});
  }
}

// Members of a struct S, kept as rows of `stride` values.
template <auto... kMembers>
struct Members {
  template <class S, class T>
  static ONEPASS_HD S load(const T* rows, int64_t stride) {
    S s{};
    int64_t row = 0;
    ((s.*kMembers = rows[stride * row++]), ...);
    return s;
  }
  template <class S, class T>
  static ONEPASS_HD void store(const S& s, T* rows, int64_t stride) {
    int64_t row = 0;
    ((rows[stride * row++] = s.*kMembers), ...);
  }
};
template <auto... kMembers>
constexpr int64_t count_of(Members<kMembers...>) {
  return int64_t(sizeof...(kMembers));
}

ONEPASS_END
