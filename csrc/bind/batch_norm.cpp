// batch_norm: a norm over each channel and what follows it, forward and backward.
#include "bind/channels.h"
#include "kernels/norm_list.h"

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

void set_normalised(Border* b, ChannelNorm* call, int axis) {
  set_channels(b, call, axis);
  call->batch_statistics = b->boolean(axis + 1);
  check_batch(call, b->first());
  b->set(Shape::saved, {3, call->channels}, ": three values per channel");
}

template <size_t kCount>
py::tuple tuple_of(PyObject* const (&objects)[kCount]) {
  py::tuple tuple(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    Py_INCREF(objects[i]);
    PyTuple_SET_ITEM(tuple.ptr(), Py_ssize_t(i), objects[i]);
  }
  return tuple;
}

constexpr Argument kBatchNormTable[] = {
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
    text("activation"),
    options("options"),
    number("dropout_p", 0, 1),
    word("seed"),
    word("offset"),
    {"statistics", saved, made},
};
constexpr Contract kBatchNorm = contract("batch_norm", kBatchNormTable);

// (y, saved); saved is what batch_norm_backward takes after dy.
py::object batch_norm(Arguments given) {
  enum {
    kX,
    kWeight,
    kBias,
    kMean,
    kVar,
    kResidual,
    kOut,
    kAxis,
    kTraining,
    kMomentum,
    kEps,
    kActivation,
    kStatistics = 16
  };
  BorderOf<kBatchNorm> b(given);
  ChannelNorm call{};
  ActivationOptions room;
  set_normalised(&b, &call, kAxis);
  call.momentum = b.number(kMomentum);
  call.eps = b.number(kEps);
  if (call.batch_statistics && call.eps == 0)
    value_error(b.op(), "eps is " + repr(given[kEps]) + ", expected a finite number > 0");
  set_epilogue(b, &call.epilogue, &room, kActivation);
  if (!call.batch_statistics) call.epilogue.dropout = {0, 0, 0};
  if (b.has(kMean) != b.has(kVar))
    value_error(b.op(), std::string("'running_mean' and 'running_var' belong together, but '") +
                            (b.has(kMean) ? "running_var" : "running_mean") + "' is None");
  if (!call.batch_statistics && !b.has(kMean))
    value_error(b.op(),
                "'running_mean' and 'running_var' are needed with training=False; pass them, or "
                "training=True to normalise by the batch");
  if (!call.batch_statistics) b.freeze();
  const Target target = b.check();
  call.weight = b.vector(kWeight);
  call.bias = b.vector(kBias);
  call.running_mean = b.vector(kMean);
  call.running_var = b.vector(kVar);
  call.x = b.data(kX);
  call.epilogue.residual = b.data(kResidual);
  call.y = b.data(kOut);
  call.saved = b.data(kStatistics);
  b.run(target, target.backend->channel_norm[kBatchNormIndex], &call);
  static PyObject* const nothing = PyFloat_FromDouble(0);
  PyObject* const kept[] = {
      b[kX].object,           given[kWeight],
      given[kBias],           b.result(kResidual).ptr(),
      b[kStatistics].object,  given[kAxis],
      given[kTraining],       given[kActivation],
      given[kActivation + 1], call.batch_statistics ? given[kActivation + 2] : nothing,
      given[kActivation + 3], given[kActivation + 4]};
  return py::make_tuple(b.result(kOut), tuple_of(kept));
}

constexpr Argument kBatchNormBackwardTable[] = {
    {"dy", like_reference, read | dense | aliased},
    {"x", reference, read | dense},
    {"weight", per_channel, read | optional},
    {"bias", per_channel, read | optional},
    {"residual", like_reference, read | dense | optional},
    {"statistics", saved, read | packed},
    axis("axis"),
    flag("training"),
    text("activation"),
    options("options"),
    number("dropout_p", 0, 1),
    word("seed"),
    word("offset"),
    {"out", like_reference, write},
    {"dweight", per_channel, made},
    {"dbias", per_channel, made},
    {"dresidual", like_reference, made},
};
constexpr Contract kBatchNormBackward = contract("batch_norm_backward", kBatchNormBackwardTable);

// (dx, dweight, dbias), and dresidual if there is a residual.
py::object batch_norm_backward(Arguments given) {
  enum {
    kDy,
    kX,
    kWeight,
    kBias,
    kResidual,
    kStatistics,
    kAxis,
    kTraining,
    kActivation,
    kDx = 13,
    kDweight,
    kDbias,
    kDresidual
  };
  BorderOf<kBatchNormBackward> b(given);
  ChannelNorm call{};
  ActivationOptions room;
  set_normalised(&b, &call, kAxis);
  set_epilogue(b, &call.epilogue, &room, kActivation);
  if (!b.has(kWeight)) b.leave_out(kDweight);
  if (!b.has(kBias)) b.leave_out(kDbias);
  if (!b.has(kResidual)) b.leave_out(kDresidual);
  const Target target = b.check();
  call.weight = b.vector(kWeight);
  call.bias = b.vector(kBias);
  call.dweight = b.vector(kDweight);
  call.dbias = b.vector(kDbias);
  call.saved = b.data(kStatistics);
  call.x = b.data(kX);
  call.epilogue.residual = b.data(kResidual);
  call.dy = b.data(kDy);
  call.dx = b.data(kDx);
  call.dresidual = b.data(kDresidual);
  b.run(target, target.backend->channel_norm_backward[kBatchNormIndex], &call);
  if (!b.has(kResidual)) return py::make_tuple(b.result(kDx), b.result(kDweight), b.result(kDbias));
  return py::make_tuple(b.result(kDx), b.result(kDweight), b.result(kDbias), b.result(kDresidual));
}

}  // namespace

void define_batch_norm(py::module_& m) {
  define(m, kBatchNorm, &fast<&batch_norm>);
  define(m, kBatchNormBackward, &fast<&batch_norm_backward>);
}

}  // namespace onepass::bind
