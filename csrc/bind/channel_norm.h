// The border of every norm of kernels/channel_norm_list.h, forward and backward. The norm's own
// file has a table for each, which begin and end as those of batch_norm.cpp, and a check of the
// input.
#pragma once
#include "bind/channels.h"
#include "bind/norm.h"
#include "kernels/channel_norm_list.h"

namespace onepass::bind {

// The entry of a rule in Backend::channel_norm.
template <template <class> class R>
constexpr int kNormIndex = host::index_in<R>(host::ChannelNorms{});

// (N, C) or more.
void check_batch_axes(const Array& input);

// What batch norm begins with, of a whole batch and of a share alike.
constexpr Argument kBatchInputs[] = {
    {"x", reference, read | dense},
    {"weight", per_channel, read | optional},
    {"bias", per_channel, read | optional},
};
constexpr Argument kBatchRunning[] = {
    {"running_mean", per_channel, update | optional},
    {"running_var", per_channel, update | optional},
};
constexpr Argument kBatchAxis[] = {axis("axis")};

// Of a rule that renormalises: how far the batch's statistics may be from the running ones.
constexpr Argument kRenormLimits[] = {number("rmax", 1, kInfinity), number("dmax", 0, kInfinity)};

// kCheck: of (call, x).
template <template <class> class R, const Contract& kContract, auto kCheck>
struct ChannelNormBorder : ChannelBorder<kContract, ChannelNorm> {
  static constexpr int64_t kRows = host::count_of(typename R<float>::Rows{});
  static_assert(sizeof(typename R<float>::Saved) == kRows * sizeof(float), "every member is a row");

  explicit ChannelNormBorder(Arguments given) : ChannelBorder<kContract, ChannelNorm>(given) {
    constexpr int kTraining = kContract.position("training");
    this->call.batch_statistics = this->boolean(kTraining);
    kCheck(this->call, this->first());
    this->set(Shape::saved, {kRows, this->call.channels}, ": what forward leaves per channel");
  }
};

// (y, saved); saved is what backward takes after dy.
template <template <class> class R, const Contract& kForward, const Contract& kBackward,
          auto kCheck>
py::object channel_norm(Arguments given) {
  constexpr int kMean = kForward.position("running_mean"), kVar = kForward.position("running_var");
  constexpr int kMomentum = kForward.position("momentum"), kEps = kForward.position("eps");
  ChannelNormBorder<R, kForward, kCheck> b(given);
  ChannelNorm& call = b.call;
  call.momentum = b.number(kMomentum);
  call.eps = b.number(kEps);
  if (call.batch_statistics && call.eps == 0)
    value_error(b.op(), is("eps", given[kEps]) + ", expected a finite number > 0");
  if (!call.batch_statistics) call.epilogue.dropout = {0, 0, 0};
  check_running_pair(b, kMean, kVar);
  if constexpr (R<float>::kRenormalises) {
    call.rmax = b.number(kForward.position("rmax"));
    call.dmax = b.number(kForward.position("dmax"));
  }
  if (!call.batch_statistics && !b.has(kMean))
    value_error(b.op(),
                "'running_mean' and 'running_var' are needed with training=False; pass them, or "
                "training=True to normalise by the batch");
  if (!call.batch_statistics) b.freeze();
  b.run([](const Backend& backend) { return backend.channel_norm[kNormIndex<R>]; });
  return py::make_tuple(b.result(b.kOut), kept_for<kBackward, kForward>(b, call.batch_statistics));
}

// (dx, dweight, dbias), and dresidual if there is a residual.
template <template <class> class R, const Contract& kBackward, auto kCheck>
py::object channel_norm_backward(Arguments given) {
  ChannelNormBorder<R, kBackward, kCheck> b(given);
  leave_out_gradients<kBackward>(&b);
  b.run([](const Backend& backend) { return backend.channel_norm_backward[kNormIndex<R>]; });
  return gradients_of<kBackward>(b);
}

}  // namespace onepass::bind
