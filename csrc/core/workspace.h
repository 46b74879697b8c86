// The bytes that a call asks its caller for; 0 where the backend's calls need none.
#pragma once
#include "core/backend.h"

namespace onepass {

inline int64_t workspace_bytes(const Backend& b, const Elementwise& call) {
  return b.elementwise_workspace ? b.elementwise_workspace(call) : 0;
}
// The workspace of measure, watch_before and watch_after.
inline int64_t measure_bytes(const Backend& b, const Elementwise& call) {
  return b.measure_workspace ? b.measure_workspace(call) : 0;
}
// That of factor.
inline int64_t factor_bytes(const Backend& b, const Elementwise& call) {
  return b.factor_workspace ? b.factor_workspace(call) : 0;
}
inline int64_t workspace_bytes(const Backend& b, const GlobalNorm& call) {
  return b.global_norm_workspace ? b.global_norm_workspace(call) : 0;
}
inline int64_t workspace_bytes(const Backend& b, const Channelwise& call) {
  return b.channelwise_workspace ? b.channelwise_workspace(call) : 0;
}
inline int64_t workspace_bytes(const Backend& b, const RowNorm& call) {
  return b.row_norm_workspace ? b.row_norm_workspace(call) : 0;
}
inline int64_t workspace_bytes(const Backend& b, const CrossEntropy& call) {
  return b.cross_entropy_workspace ? b.cross_entropy_workspace(call) : 0;
}
inline int64_t workspace_bytes(const Backend& b, const PointwiseLoss& call) {
  return b.pointwise_loss_workspace ? b.pointwise_loss_workspace(call) : 0;
}
inline int64_t workspace_bytes(const Backend&, const AlongClasses&) { return 0; }
inline int64_t workspace_bytes(const Backend&, const DropoutMask&) { return 0; }
inline int64_t workspace_bytes(const Backend& b, const Windows& call) {
  return b.depthwise_workspace ? b.depthwise_workspace(call) : 0;
}

// Of the values that the pass of a rule with factors leaves for the rows of a tensor, behind the
// host::Factored (core/factors.h).
inline int64_t factored_row_bytes(int64_t size, int64_t width, DType computing) {
  constexpr int64_t kAlignment = 64;
  const int64_t rows = width == 0 ? 0 : size / width;
  return (rows * size_of(computing) + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace onepass
