// The driver of norms over rows, by any rule (kernels/row_norm_list.h), with the epilogue behind
// them, forward and backward. row_norm_call.h describes a call, row_norm_forward.h and
// row_norm_backward.h are its passes.
//
// A task takes some rows and does all of a row while it is in a cache, so memory is read once; rows
// longer than the caches are read twice. Moments are sums about the row's first element: up to
// eight elements in the computing type, these in double (moment_sums.h).
#pragma once
#include "cpu/row_norm_backward.h"
#include "cpu/row_norm_forward.h"
#include "kernels/row_norm_list.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

inline bool is_empty(const RowNorm& c) { return c.rows() * c.row_elements() == 0; }

template <template <class> class Pass, template <class> class R>
void run(const RowNorm& c) {
  const double part = R<double>::part(double(c.row_elements()));
  const auto run_as = [&](auto zero) {
    using T = decltype(zero);
    using Call = RowNormCall<typename KernelsOf<R<T>>::Rule, T>;
    const Call call(c, part);
    Pass<Call>{call}.run();
  };
  c.dtype == DType::f64 ? run_as(0.0) : run_as(0.0f);
}

}  // namespace row_norms

template <template <class> class R>
void row_norm(const RowNorm& c) {
  if (!row_norms::is_empty(c)) row_norms::run<row_norms::Forward, R>(c);
}
template <template <class> class R>
void row_norm_backward(const RowNorm& c) {
  if (!row_norms::is_empty(c)) return row_norms::run<row_norms::Backward, R>(c);
  zero_channels(c.dweight, c.groups * c.channels);
  zero_channels(c.dbias, c.groups * c.channels);
}

}  // namespace
ONEPASS_END
