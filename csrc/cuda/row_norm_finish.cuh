// Finishes a row of a norm: its sums become statistics forward, and the correction of dx backward.
#pragma once
#include "cuda/row_norm_unit.cuh"
#include "kernels/moments_range.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

// Sums that have left the range of double, taken again by each lane: slow, and rare.
template <class T, class Call>
ONEPASS_DEVICE void moments_again(const Call& call, int64_t row, double first, double by, double* s,
                                  double* q) {
  *s = *q = 0;
  const int64_t begin = row * call.row_elements();
  for (int64_t i = 0; i < call.row_elements(); ++i) {
    const double d = double(load_element<T>(call.in(call.x), begin + i)) * by - first;
    *s += d;
    *q += d * d;
  }
}
template <class T, class Call>
ONEPASS_DEVICE void gradients_again(const Call& call, int64_t row, const RowState<T>& p, double* s,
                                    double* q) {
  *s = *q = 0;
  const int64_t begin = row * call.row_elements(), base = row % call.groups * call.channels;
  for (int64_t i = 0; i < call.row_elements(); ++i) {
    const auto unit = fetch_backward<1, T>(call, begin + i, false);
    T w[1], b[1], g[1], hat[1];
    load_affine<1>(call, base, i / call.inner, i % call.inner, w, b);
    gradient_unit<1>(call, p, unit, w, b, call.drops() ? keep_bits<1>(call, begin + i) : 0,
                     p.g_scale, false, g, hat);
    *s += double(g[0]) * double(w[0]);
    *q += double(g[0]) * double(w[0]) * double(hat[0]);
  }
}
// stores: in one lane of those that have the row.
template <class T, class Call>
ONEPASS_DEVICE RowState<T> finish_forward(const Call& call, int64_t row, double s, double q,
                                          T first_element, bool stores) {
  using R = typename Call::template Rule<T>;
  const double count = double(call.row_elements()), first = double(first_element);
  typename R::Saved saved;
  // Sums of floats are never out of double's range.
  const double by = sizeof(T) == 8 ? row_moments_scale<T>(s, q, first, count, call.eps) : 0;
  if (by == 0) {
    saved = R::save(s, q, first, call.part, call.eps);
    if constexpr (sizeof(T) == 4)
      if (saved.rstd < math::Format<float>::kMinNormal)
        saved.rstd =
            lower<T>(Call::template Rule<double>::save(s, q, first, call.part, call.eps).rstd);
  } else {
    moments_again<T>(call, row, first * by, by, &s, &q);
    saved = row_of_scaled<R>(s, q, first, by, call.part, call.eps);
  }
  if (stores) {
    T* values = static_cast<T*>(call.saved) + row;
    values[0] = saved.mean;
    values[call.rows()] = saved.lost;
    values[2 * call.rows()] = saved.rstd;
    if (R::kCentres && call.moments) {
      using Wide = BatchNormRule<double>;
      const auto m = moments_of_scaled<Wide>(s, q, first, by == 0 ? 1 : by, call.part);
      call.moments[2 * row] = m.mean;
      call.moments[2 * row + 1] = m.variance;
    }
  }
  return state_of<T, Call>(saved);
}
template <class T, class Call>
ONEPASS_DEVICE void finish_backward(const Call& call, int64_t row, double s, double q,
                                    RowState<T>* p) {
  const bool leaves = sum_leaves_range<T>(s) || sum_leaves_range<T>(q);
  if (leaves) p->g_scale = NormRange<T>::kGradientDown;
  if (leaves && sizeof(T) == 8) {
    gradients_again(call, row, *p, &s, &q);
  } else {
    s *= double(p->g_scale);
    q *= double(p->g_scale);
  }
  const auto c = Call::template Rule<T>::correction(s, q, call.part);
  p->level = c.level;
  p->slope = c.slope;
}

}  // namespace row_norms
}  // namespace
ONEPASS_END
