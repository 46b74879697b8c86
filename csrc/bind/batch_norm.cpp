// batch_norm: a norm over each channel and what follows it, forward and backward.
#include "bind/channels.h"
#include "kernels/channel_norm_list.h"

namespace onepass::bind {
namespace {

constexpr int kBatchNormIndex = host::index_in<host::BatchNormRule>(host::ChannelNorms{});

// (N, C) or more, and enough values per channel.
void check_batch(const ChannelNorm* call, const Array& input) {
  if (input.ndim < 2 || input.ndim > 5)
    value_error(input.op, input.label() + " has shape " + shape_text(input) +
                              ", expected two to five axes: (N, C), (N, C, L), (N, C, H, W), "
                              "(N, C, D, H, W), or with the channels last");
  if (call->batch_statistics && call->outer * call->inner == 1 && call->channels > 0)
    value_error(input.op, input.label() + " has shape " + shape_text(input) +
                              ": one value per channel has no variance; train on at least two "
                              "samples (drop_last=True drops a short last batch) or normalise by "
                              "running statistics (eval mode)");
}

// The arguments of a norm beside its arrays, forward and backward.
template <const Contract& kContract>
struct NormBorder : ChannelBorder<kContract, ChannelNorm> {
  static constexpr int kTraining = kContract.find("training"), kX = kContract.find("x");
  static constexpr int kWeight = kContract.find("weight"), kBias = kContract.find("bias");
  static constexpr int kResidual = kContract.find("residual");
  static constexpr int kStatistics = kContract.find("statistics");

  explicit NormBorder(Arguments given) : ChannelBorder<kContract, ChannelNorm>(given) {
    this->call.batch_statistics = this->boolean(kTraining);
    check_batch(&this->call, this->first());
    this->set(Shape::saved, {3, this->call.channels}, ": three values per channel");
  }
};

template <size_t kCount>
py::tuple tuple_of(PyObject* const (&objects)[kCount]) {
  py::tuple tuple(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    Py_INCREF(objects[i]);
    PyTuple_SET_ITEM(tuple.ptr(), Py_ssize_t(i), objects[i]);
  }
  return tuple;
}

constexpr Argument kForwardArrays[] = {
    {"x", reference, read | dense},
    {"weight", per_channel, read | optional},
    {"bias", per_channel, read | optional},
    {"running_mean", per_channel, update | optional},
    {"running_var", per_channel, update | optional},
    {"residual", like_reference, read | dense | optional},
    {"out", like_reference, write},
    axis("axis"),
    flag("training"),
    number("momentum", 0, 1, "; for the cumulative average pass 1/(number of batches so far)"),
    number("eps", 0, kLargest),
};
constexpr Argument kStatistics[] = {{"statistics", saved, made}};
constexpr auto kBatchNormTable = join(kForwardArrays, kEpilogueArguments, kStatistics);
constexpr Contract kBatchNorm = contract("batch_norm", kBatchNormTable.at);

// (y, saved); saved is what batch_norm_backward takes after dy.
py::object batch_norm(Arguments given) {
  constexpr int kMean = kBatchNorm.find("running_mean"), kVar = kBatchNorm.find("running_var");
  constexpr int kEps = kBatchNorm.find("eps"), kMomentum = kBatchNorm.find("momentum");
  NormBorder<kBatchNorm> b(given);
  ChannelNorm& call = b.call;
  call.momentum = b.number(kMomentum);
  call.eps = b.number(kEps);
  if (call.batch_statistics && call.eps == 0)
    value_error(b.op(), is("eps", given[kEps]) + ", expected a finite number > 0");
  if (!call.batch_statistics) call.epilogue.dropout = {0, 0, 0};
  if (b.has(kMean) != b.has(kVar))
    value_error(b.op(), std::string("'running_mean' and 'running_var' belong together, but '") +
                            (b.has(kMean) ? "running_var" : "running_mean") + "' is None");
  if (!call.batch_statistics && !b.has(kMean))
    value_error(b.op(),
                "'running_mean' and 'running_var' are needed with training=False; pass them, or "
                "training=True to normalise by the batch");
  if (!call.batch_statistics) b.freeze();
  b.run([](const Backend& backend) { return backend.channel_norm[kBatchNormIndex]; });
  static PyObject* const nothing = PyFloat_FromDouble(0);
  constexpr int kActivation = decltype(b)::kActivation;
  PyObject* const kept[] = {
      b[b.kX].object,          given[b.kWeight],
      given[b.kBias],          b.result(b.kResidual).ptr(),
      b[b.kStatistics].object, given[b.kAxis],
      given[b.kTraining],      given[kActivation],
      given[kActivation + 1],  call.batch_statistics ? given[kActivation + 2] : nothing,
      given[kActivation + 3],  given[kActivation + 4]};
  return py::make_tuple(b.result(b.kOut), tuple_of(kept));
}

constexpr Argument kBackwardArrays[] = {
    {"dy", like_reference, read | dense | aliased},
    {"x", reference, read | dense},
    {"weight", per_channel, read | optional},
    {"bias", per_channel, read | optional},
    {"residual", like_reference, read | dense | optional},
    {"statistics", saved, read | packed},
    axis("axis"),
    flag("training"),
};
constexpr Argument kResults[] = {
    {"out", like_reference, write},
    {"dweight", per_channel, made},
    {"dbias", per_channel, made},
    {"dresidual", like_reference, made},
};
constexpr auto kBatchNormBackwardTable = join(kBackwardArrays, kEpilogueArguments, kResults);
constexpr Contract kBatchNormBackward = contract("batch_norm_backward", kBatchNormBackwardTable.at);

// (dx, dweight, dbias), and dresidual if there is a residual.
py::object batch_norm_backward(Arguments given) {
  constexpr int kDweight = kBatchNormBackward.find("dweight");
  constexpr int kDbias = kBatchNormBackward.find("dbias");
  constexpr int kDresidual = kBatchNormBackward.find("dresidual");
  NormBorder<kBatchNormBackward> b(given);
  if (!b.has(b.kWeight)) b.leave_out(kDweight);
  if (!b.has(b.kBias)) b.leave_out(kDbias);
  if (!b.has(b.kResidual)) b.leave_out(kDresidual);
  b.run([](const Backend& backend) { return backend.channel_norm_backward[kBatchNormIndex]; });
  if (!b.has(b.kResidual))
    return py::make_tuple(b.result(b.kOut), b.result(kDweight), b.result(kDbias));
  return py::make_tuple(b.result(b.kOut), b.result(kDweight), b.result(kDbias),
                        b.result(kDresidual));
}

}  // namespace

void define_batch_norm(py::module_& m) {
  define(m, kBatchNorm, &fast<&batch_norm>);
  define(m, kBatchNormBackward, &fast<&batch_norm_backward>);
}

}  // namespace onepass::bind
