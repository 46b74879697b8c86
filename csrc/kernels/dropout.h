// dropout: y = x·scale if the element's keep bit is set, else 0; scale = 1/(1 - p). It selects and
// never multiplies by zero, so that p = 1 gives zeros for Inf too. The backward is the same
// function of dy. Bits depend only on (seed, offset, element index): core/philox.h. Srivastava et
// al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014.
#pragma once
#include "core/math.h"
#include "core/philox.h"
#include "core/signature.h"

ONEPASS_BEGIN

template <class T>
struct Dropout {
  static constexpr const char* name = "dropout";
  static constexpr auto operands = names("out", "x");
  static constexpr auto hyper = names();
  T scale;
  // Masks the bits: GCC turns a conditional into a branch around the load, and the loop stays
  // scalar.
  ONEPASS_HD T operator()(T x, Keep keep) const {
    using Bits = typename math::Format<T>::Bits;
    const Bits mask = Bits(std::make_signed_t<Bits>(keep.mask));
    return math::from_bits(Bits(math::to_bits(x * scale) & mask));
  }
};

ONEPASS_END
