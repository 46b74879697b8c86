// Runs times powers of two, for what leaves the range of its type (kernels/norm_range.h). Factors
// are a pointer to one per element, or Uniform.
#pragma once
#include "core/hd.h"

ONEPASS_BEGIN
namespace {
namespace normalise {

// x·by; `to` may be x.
template <class T, class P>
[[gnu::noinline]] const T* scale_run(int64_t n, const T* x, P by, T* to) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) to[i] = x[i] * by[i];
  return to;
}
// dx = dx'·(x_scale/g_scale).
template <class T, class P>
[[gnu::noinline]] void unscale_run(int64_t n, T* dx, P x, P g) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dx[i] *= x[i] / g[i];
}

}  // namespace normalise
}  // namespace
ONEPASS_END
