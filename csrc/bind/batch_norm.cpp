// batch_norm and batch_renorm: a norm over each channel and what follows it, forward and backward.
#include "bind/channel_norm.h"

namespace onepass::bind {

void check_batch_axes(const Array& input) {
  if (input.ndim < 2 || input.ndim > 5)
    value_error(input.op, input.label() + " has shape " + shape_text(input) +
                              ", expected two to five axes: (N, C), (N, C, L), (N, C, H, W), "
                              "(N, C, D, H, W), or with the channels last");
}

namespace {

// (N, C) or more, and enough values per channel.
void check_batch(const ChannelNorm& call, const Array& input) {
  check_batch_axes(input);
  if (call.batch_statistics && call.outer * call.inner == 1 && call.channels > 0)
    value_error(input.op, input.label() + " has shape " + shape_text(input) +
                              ": one value per channel has no variance; train on at least two "
                              "samples (drop_last=True drops a short last batch) or normalise by "
                              "running statistics (eval mode)");
}

constexpr Argument kNeededRunning[] = {
    {"running_mean", per_channel, update},
    {"running_var", per_channel, update},
};
constexpr Argument kOptions[] = {
    {"residual", like_reference, read | dense | optional},
    {"out", like_reference, write},
    axis("axis"),
    flag("training"),
    number("momentum", 0, 1, "; for the cumulative average pass 1/(number of batches so far)"),
    number("eps", 0, kLargest),
};
constexpr auto kForwardTable =
    join(kBatchInputs, kBatchRunning, kOptions, kEpilogueArguments, kSavedStatistics);
constexpr Contract kForward = contract("batch_norm", kForwardTable.at);
constexpr auto kRenormTable = join(kBatchInputs, kNeededRunning, kOptions, kRenormLimits,
                                   kEpilogueArguments, kSavedStatistics);
constexpr Contract kRenorm = contract("batch_renorm", kRenormTable.at);

constexpr Argument kTraining[] = {flag("training")};
constexpr Argument kAdded[] = {{"add", like_reference, read | dense | optional | aliased}};
constexpr auto kBackwardTable = join(kKeptArrays, kBatchAxis, kTraining, kEpilogueArguments,
                                     kInputGradient, kAdded, kOtherGradients);
constexpr Contract kBackward = contract("batch_norm_backward", kBackwardTable.at);
constexpr Contract kRenormBackward = contract("batch_renorm_backward", kBackwardTable.at);

template <template <class> class R, const Contract& kForward, const Contract& kBackward>
void define_pair(py::module_& m) {
  define(m, kForward, &fast<&channel_norm<R, kForward, kBackward, &check_batch>>);
  define(m, kBackward, &fast<&channel_norm_backward<R, kBackward, &check_batch>>);
}

}  // namespace

void define_batch_norm(py::module_& m) {
  define_pair<host::BatchNormRule, kForward, kBackward>(m);
  define_pair<host::BatchRenormRule, kRenorm, kRenormBackward>(m);
}

}  // namespace onepass::bind
