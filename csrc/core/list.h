// Lists of templates over the computing type: they register formulas, and an entry's position is
// its index in the tables.
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

ONEPASS_END
