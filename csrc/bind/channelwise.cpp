// bias_act and batch_norm, forward and backward: dense arrays with one value per channel beside
// them.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "bind/fast.h"
#include "bind/kernel_info.h"
#include "bind/layout.h"
#include "bind/overlap.h"
#include "bind/result.h"
#include "bind/scalar.h"
#include "bind/staging.h"

namespace onepass::bind {
namespace {

// Arrays of a call in the order in which they are opened; found again by position.
template <int kCount>
struct Arrays {
  Array at[kCount];
  Staging staging;
  Array& operator[](int i) { return at[i]; }
  // What the caller gets: None where there is no such array.
  py::object result(int i) const {
    return at[i] ? py::reinterpret_borrow<py::object>(at[i].object) : py::object(py::none());
  }

  // After check_device: dtype, shape, order in memory of everything shaped like x (at[0]).
  void check_like_x(int i, bool writes) {
    if (!at[i]) return;
    if (i > 0) {
      check_dtype_like(at[i], at[0]);
      check_shape_like(at[i], at[0]);
    }
    if (writes) check_writable(at[i]);
    if (!at[i].c_order) staging.load(&at[i], writes);
  }
  // A vector of one value per channel: any strides, since a copy of it costs nothing.
  ChannelVector vector(int i, int64_t channels, bool writes) {
    if (!at[i]) return {nullptr, DType::f32};
    check_floating(at[i]);
    check_parameter_dtype(at[i], at[0]);
    check_shape(at[i], &channels, 1, ": one value per channel");
    if (writes) check_writable(at[i]);
    if (!at[i].c_order) staging.load(&at[i], writes);
    return {at[i].data, at[i].dtype()};
  }
  // at[i] is written and shares no memory with any other, but may be exactly at[alias] or
  // at[other].
  void check_apart(int i, int alias = -1, int other = -1) {
    if (at[i].made) return;
    for (int j = 0; j < kCount; ++j)
      if (j != i) check_overlap(at[i], at[j], j == alias || j == other);
  }
};

// Where the channels are, and the array as (outer, channels, inner).
void set_shape(Channelwise* call, const Array& x, PyObject* axis) {
  const int64_t given = signed_64(x.op, "axis", axis);
  const int64_t d = given < 0 ? given + x.ndim : given;
  if (d < 0 || d >= x.ndim)
    value_error(x.op, "axis is " + std::to_string(given) + ", but " + x.label() + " has shape " +
                          shape_text(x));
  call->channels = x.shape[d];
  call->outer = std::accumulate(x.shape, x.shape + d, int64_t(1), std::multiplies<>());
  call->inner = std::accumulate(x.shape + d + 1, x.shape + x.ndim, int64_t(1), std::multiplies<>());
  call->dtype = x.dtype();
}

// Activation by name, with its options; room for them is the caller's.
constexpr int kMaxOptions = 8;
void set_activation(Epilogue* epilogue, double* room, const char* op, PyObject* name,
                    PyObject* options) {
  const std::string_view wanted = string(op, "activation", name);
  const KernelInfo* info = find(activations(), wanted);
  if (!info)
    value_error(op, "activation is " + repr(name) + ", expected one of " + names_of(activations()));
  if (!PyTuple_Check(options) || size_t(PyTuple_GET_SIZE(options)) != info->hyper.size() ||
      info->hyper.size() > size_t(kMaxOptions))
    value_error(op, "options of activation " + repr(name) + " are " + repr(options) +
                        ", expected a tuple of " + std::to_string(info->hyper.size()));
  for (size_t i = 0; i < info->hyper.size(); ++i)
    room[i] = real(op, info->hyper[i], PyTuple_GET_ITEM(options, Py_ssize_t(i)));
  epilogue->activation = info->index;
  epilogue->options = room;
}

py::object bias_act(Arguments given) {
  constexpr const char* kOp = "bias_act";
  given.expect(kOp, 9);
  enum { x, bias, out, count };
  Arrays<count> a;
  open_dense(&a[x], kOp, "x", given[0]);
  open(&a[bias], kOp, "bias", given[1]);
  check_one_device(a.at, out);
  check_floating(a[x]);
  open_result(&a[out], kOp, "out", given[2], a[x]);
  const Target target = check_device(a.at, count);
  Channelwise call{};
  double options[kMaxOptions];
  set_shape(&call, a[x], given[3]);
  set_activation(&call.epilogue, options, kOp, given[4], given[5]);
  call.epilogue.dropout = random_stream(kOp, "dropout_p", given[6], given[7], given[8]);
  a.check_apart(out, x);
  a.check_like_x(x, false);
  a.check_like_x(out, true);
  call.bias = a.vector(bias, call.channels, false);
  call.x = a[x].data;
  call.y = a[out].data;
  run(target, target.backend->bias_act, &call, a[x].size());
  a.staging.store();
  mark_written(a[out]);
  return a.result(out);
}

py::object bias_act_backward(Arguments given) {
  constexpr const char* kOp = "bias_act_backward";
  given.expect(kOp, 10);
  enum { x, dy, bias, dx, dbias, count };
  Arrays<count> a;
  open_dense(&a[dy], kOp, "dy", given[0]);
  open_dense(&a[x], kOp, "x", given[1]);
  open(&a[bias], kOp, "bias", given[2]);
  check_one_device(a.at, dx);
  check_floating(a[x]);
  Channelwise call{};
  double options[kMaxOptions];
  set_shape(&call, a[x], given[4]);
  set_activation(&call.epilogue, options, kOp, given[5], given[6]);
  call.epilogue.dropout = random_stream(kOp, "dropout_p", given[7], given[8], given[9]);
  open_result(&a[dx], kOp, "out", given[3], a[x]);
  make(&a[dbias], kOp, "dbias", &call.channels, 1, a[x]);
  const Target target = check_device(a.at, count);
  a.check_apart(dx, dy, x);
  for (const int i : {x, dy}) a.check_like_x(i, false);
  a.check_like_x(dx, true);
  call.bias = a.vector(bias, call.channels, false);
  call.dbias = a.vector(dbias, call.channels, true);
  call.x = a[x].data;
  call.dy = a[dy].data;
  call.dx = a[dx].data;
  run(target, target.backend->bias_act_backward, &call, a[x].size());
  a.staging.store();
  mark_written(a[dx]);
  return py::make_tuple(a.result(dx), a.result(dbias));
}

// ---- batch norm

// (N, C) or more, and enough values per channel.
void check_batch(const BatchNorm* call, const Array& input) {
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

// What the forward leaves for the backward.
void check_statistics(const BatchNorm* call, const Array& statistics, const Array& like) {
  const DType wanted = computing_type(like.dtype());
  if (statistics.element != Element(wanted))
    type_error(like.op, statistics.label() + " has dtype " + dtype_text(statistics) +
                            ", expected " + (wanted == DType::f64 ? "float64" : "float32"));
  const int64_t shape[] = {3, call->channels};
  check_shape(statistics, shape, 2, ": three values per channel");
  check_dense(statistics);
}

void set_momentum(BatchNorm* call, const char* op, PyObject* momentum) {
  const bool number = momentum != Py_None;
  call->momentum = number ? real(op, "momentum", momentum) : -1;
  if (!(call->momentum >= 0 && call->momentum <= 1))
    value_error(op, "momentum is " + repr(momentum) +
                        ", expected a number in [0, 1]; for the cumulative average pass "
                        "1/(number of batches so far)");
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

// (y, saved); saved is what batch_norm_backward takes after dy.
py::object batch_norm(Arguments given) {
  constexpr const char* kOp = "batch_norm";
  given.expect(kOp, 16);
  enum { x, weight, bias, running_mean, running_var, residual, y, statistics, count };
  Arrays<count> a;
  open_dense(&a[x], kOp, "x", given[0]);
  open_optional(&a[weight], kOp, "weight", given[1]);
  open_optional(&a[bias], kOp, "bias", given[2]);
  open_optional(&a[running_mean], kOp, "running_mean", given[3]);
  open_optional(&a[running_var], kOp, "running_var", given[4]);
  if (given[5] != Py_None) open_dense(&a[residual], kOp, "residual", given[5]);
  check_one_device(a.at, y);
  check_floating(a[x]);
  BatchNorm call{};
  double options[kMaxOptions];
  set_shape(&call, a[x], given[7]);
  call.batch_statistics = boolean(kOp, "training", given[8]);
  set_momentum(&call, kOp, given[9]);
  call.eps = real(kOp, "eps", given[10]);
  const bool divides = call.eps > 0 || (call.eps == 0 && !call.batch_statistics);
  if (!(divides && std::isfinite(call.eps)))
    value_error(kOp, "eps is " + repr(given[10]) + ", expected a finite number " +
                         (call.batch_statistics ? "> 0" : ">= 0"));
  set_activation(&call.epilogue, options, kOp, given[11], given[12]);
  const DropoutStream dropout = random_stream(kOp, "dropout_p", given[13], given[14], given[15]);
  call.epilogue.dropout = call.batch_statistics ? dropout : DropoutStream{0, 0, 0};
  if (bool(a[running_mean]) != bool(a[running_var]))
    value_error(kOp, std::string("'running_mean' and 'running_var' belong together, but '") +
                         (a[running_mean] ? "running_var" : "running_mean") + "' is None");
  if (!call.batch_statistics && !a[running_mean])
    value_error(kOp,
                "'running_mean' and 'running_var' are needed with training=False; pass them, or "
                "training=True to normalise by the batch");
  check_batch(&call, a[x]);
  open_result(&a[y], kOp, "out", given[6], a[x]);
  const int64_t three[] = {3, call.channels};
  make(&a[statistics], kOp, "statistics", three, 2, a[x]);
  const Target target = check_device(a.at, count);
  const bool updates = call.batch_statistics;
  a.check_apart(y);
  if (updates)
    for (const int i : {running_mean, running_var}) a.check_apart(i);
  for (const int i : {x, residual}) a.check_like_x(i, false);
  a.check_like_x(y, true);
  call.weight = a.vector(weight, call.channels, false);
  call.bias = a.vector(bias, call.channels, false);
  call.running_mean = a.vector(running_mean, call.channels, updates);
  call.running_var = a.vector(running_var, call.channels, updates);
  call.x = a[x].data;
  call.epilogue.residual = a[residual].data;
  call.y = a[y].data;
  call.saved = a[statistics].data;
  run(target, target.backend->batch_norm, &call, a[x].size());
  a.staging.store();
  mark_written(a[y]);
  if (updates)
    for (const int i : {running_mean, running_var}) mark_written(a[i]);
  static PyObject* const nothing = PyFloat_FromDouble(0);
  PyObject* const saved[] = {a[x].object,
                             given[1],
                             given[2],
                             a.result(residual).ptr(),
                             a[statistics].object,
                             given[7],
                             given[8],
                             given[11],
                             given[12],
                             updates ? given[13] : nothing,
                             given[14],
                             given[15]};
  return py::make_tuple(a.result(y), tuple_of(saved));
}

// (dx, dweight, dbias), and dresidual where there is a residual.
py::object batch_norm_backward(Arguments given) {
  constexpr const char* kOp = "batch_norm_backward";
  given.expect(kOp, 14);
  enum { x, dy, weight, bias, residual, statistics, dx, dweight, dbias, dresidual, count };
  Arrays<count> a;
  open_dense(&a[dy], kOp, "dy", given[0]);
  open_dense(&a[x], kOp, "x", given[1]);
  open_optional(&a[weight], kOp, "weight", given[2]);
  open_optional(&a[bias], kOp, "bias", given[3]);
  if (given[4] != Py_None) open_dense(&a[residual], kOp, "residual", given[4]);
  open(&a[statistics], kOp, "statistics", given[5]);
  check_one_device(a.at, dx);
  check_floating(a[x]);
  BatchNorm call{};
  double options[kMaxOptions];
  set_shape(&call, a[x], given[6]);
  call.batch_statistics = boolean(kOp, "training", given[7]);
  set_activation(&call.epilogue, options, kOp, given[8], given[9]);
  call.epilogue.dropout = random_stream(kOp, "dropout_p", given[10], given[11], given[12]);
  check_batch(&call, a[x]);
  check_statistics(&call, a[statistics], a[x]);
  for (const int i : {x, dy, residual}) a.check_like_x(i, false);
  open_result(&a[dx], kOp, "out", given[13], a[x]);
  if (a[weight]) make(&a[dweight], kOp, "dweight", &call.channels, 1, a[x]);
  if (a[bias]) make(&a[dbias], kOp, "dbias", &call.channels, 1, a[x]);
  if (a[residual]) open_result(&a[dresidual], kOp, "dresidual", Py_None, a[x]);
  const Target target = check_device(a.at, count);
  a.check_apart(dx, dy);
  for (const int i : {dx, dresidual}) a.check_like_x(i, true);
  call.weight = a.vector(weight, call.channels, false);
  call.bias = a.vector(bias, call.channels, false);
  call.dweight = a.vector(dweight, call.channels, true);
  call.dbias = a.vector(dbias, call.channels, true);
  call.saved = a[statistics].data;
  call.x = a[x].data;
  call.epilogue.residual = a[residual].data;
  call.dy = a[dy].data;
  call.dx = a[dx].data;
  call.dresidual = a[dresidual].data;
  run(target, target.backend->batch_norm_backward, &call, a[x].size());
  a.staging.store();
  mark_written(a[dx]);
  if (!a[residual]) return py::make_tuple(a.result(dx), a.result(dweight), a.result(dbias));
  return py::make_tuple(a.result(dx), a.result(dweight), a.result(dbias), a.result(dresidual));
}

}  // namespace

void define_channelwise(py::module_& m) {
  for (const KernelInfo& info : activations())
    if (info.hyper.size() > size_t(kMaxOptions)) throw std::logic_error("kMaxOptions is too small");
  define(m, "bias_act(x, bias, out, axis, activation, options, p, seed, offset)", &fast<&bias_act>);
  define(m, "bias_act_backward(dy, x, bias, dx, axis, activation, options, p, seed, offset)",
         &fast<&bias_act_backward>);
  define(m,
         "batch_norm(x, weight, bias, running_mean, running_var, residual, y, axis, training, "
         "momentum, eps, activation, options, p, seed, offset)",
         &fast<&batch_norm>);
  define(m,
         "batch_norm_backward(dy, x, weight, bias, residual, statistics, axis, training, "
         "activation, options, p, seed, offset, dx)",
         &fast<&batch_norm_backward>);
}

}  // namespace onepass::bind
