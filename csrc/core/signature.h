// Reads the type of a functor's operator(): which operands there are, which are read or written,
// and whether the functor draws random bits. Loops, bindings, error messages and the benchmark's
// bytes per element follow from it.
//
//   T                returned: the first operand, written only
//   T                read
//   T&               read and written
//   Written<T>       written only
//   Keep             not memory: the dropout bit of the element, drawn by the driver
//   Unread           an operand that this functor does not touch
//   Terms            returned, not memory: the driver adds up their squares (tensor_norms)
#pragma once
#include <type_traits>
#include <utility>

#include "core/hd.h"

namespace onepass {

struct Keep {
  int32_t mask;  // all bits where the element is kept, none where it is dropped
  // Two shifts: one instruction less than the bit, tested or subtracted from zero.
  static ONEPASS_HD Keep of(uint32_t word, int bit) { return {int32_t(word << (31 - bit)) >> 31}; }
};

// A state that the caller leaves out: it has no memory and no operand, and is never loaded or
// stored.
struct Absent {
  ONEPASS_HD Absent operator[](int64_t) const { return {}; }
};
template <class A>
constexpr bool is_present = !std::is_same_v<A, Absent>;

// An operand that other passes over the same tensors read or write.
struct Unread {
  template <class T>
  ONEPASS_HD Unread(T) {}
};

// An element that a functor with several results writes.
template <class T>
struct Written {
  T& to;
  ONEPASS_HD Written(T& element) : to(element) {}
  ONEPASS_HD void operator=(T value) const { to = value; }
};

// The values that a Measure functor returns for an element, one for each norm.
template <class T, size_t N>
struct Terms {
  static constexpr size_t size = N;
  T at[N];
};
template <class R>
constexpr size_t terms_of = 0;
template <class T, size_t N>
constexpr size_t terms_of<Terms<T, N>> = N;

enum class Access { read, write, read_write, none };

// A list of names known at compile time; N may be 0.
template <size_t N>
struct Names {
  const char* at[N ? N : 1];
  static constexpr size_t size = N;
  constexpr const char* operator[](size_t i) const { return at[i]; }
};
template <class... S>
constexpr Names<sizeof...(S)> names(S... s) {
  return {{s...}};
}
template <size_t A, size_t B>
constexpr Names<A + B> joined(const Names<A>& first, const Names<B>& second) {
  Names<A + B> all{};
  for (int i = 0; i < int(A); ++i) all.at[i] = first.at[i];
  for (int i = 0; i < int(B); ++i) all.at[int(A) + i] = second.at[i];
  return all;
}

namespace detail {
constexpr bool equal(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}
}  // namespace detail
template <size_t N>
constexpr bool contains(const Names<N>& all, const char* name) {
  for (size_t i = 0; i < N; ++i)
    if (detail::equal(all.at[i], name)) return true;
  return false;
}

namespace detail {
template <class A>
constexpr bool is_written = false;
template <class T>
constexpr bool is_written<Written<T>> = true;
template <class A>
constexpr bool is_keep = std::is_same_v<std::remove_cv_t<std::remove_reference_t<A>>, Keep>;
template <class A>
constexpr bool is_memory = !is_keep<A> && is_present<A>;
template <class A>
constexpr Access access_of = std::is_same_v<A, Unread> ? Access::none
                             : is_written<A>           ? Access::write
                             : std::is_reference_v<A>  ? Access::read_write
                                                       : Access::read;
}  // namespace detail

template <class F>
struct SignatureOf;
template <class K, class R, class... A>
struct SignatureOf<R (K::*)(A...) const> {
  static constexpr size_t terms = terms_of<R>;
  static constexpr bool returns = !std::is_void_v<R> && terms == 0;
  static constexpr bool draws = (detail::is_keep<A> || ...);
  static constexpr size_t parameters = (size_t(detail::is_memory<A>) + ... + 0);
  // Operands in memory, the returned one first. A Keep parameter comes last.
  static constexpr size_t arity = parameters + returns;
  struct Accesses {
    Access at[sizeof...(A) + 1];
  };
  static constexpr Accesses accesses() {
    Accesses all{};
    size_t o = 0;
    if (returns) all.at[o++] = Access::write;
    ((detail::is_memory<A> ? void(all.at[o++] = detail::access_of<A>) : void()), ...);
    return all;
  }
  // Parameters in the order of operator(), the absent ones among them.
  static constexpr size_t named = sizeof...(A) - draws;
  static constexpr bool present(size_t j) {
    constexpr bool all[] = {detail::is_memory<A>...};
    return all[j];
  }
  static constexpr size_t operand_of(size_t j) {
    size_t o = returns;
    for (size_t i = 0; i < j; ++i) o += present(i);
    return o;
  }
  static constexpr bool reads(size_t i) {
    return accesses().at[i] == Access::read || accesses().at[i] == Access::read_write;
  }
  static constexpr bool writes(size_t i) {
    return accesses().at[i] == Access::write || accesses().at[i] == Access::read_write;
  }
};
template <class K>
using Signature = SignatureOf<decltype(&K::operator())>;

// The argument for parameter J of operator(), from the operands' pointers.
template <class S, size_t J, class T>
ONEPASS_HD auto argument(T* const* at) {
  if constexpr (S::present(J)) {
    return at[S::operand_of(J)];
  } else {
    return Absent{};
  }
}

// Whether the last name is "step".
template <size_t N>
constexpr bool last_is_step(const Names<N>& all) {
  if constexpr (N == 0) {
    return false;
  } else {
    return detail::equal(all[N - 1], "step");
  }
}

// Builds a functor from its hyper-parameters, which travel as doubles in the order of K::hyper, or
// as T where a kernel has converted them. A plain struct takes them as they are; one with a
// constructor derives what it needs in double.
template <class K, class T, class H, size_t... I>
ONEPASS_HD K make_functor(const H* hyper, std::index_sequence<I...>) {
  if constexpr (std::is_aggregate_v<K>) {
    return K{static_cast<T>(hyper[I])...};
  } else {
    return K(hyper[I]...);
  }
}
template <class K, class T, class H>
ONEPASS_HD K make_functor(const H* hyper) {
  return make_functor<K, T>(hyper, std::make_index_sequence<K::hyper.size>{});
}

}  // namespace onepass
