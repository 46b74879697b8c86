// Shared by the pair of functions of any norm, over channels or rows: forward returns the arguments
// of backward, and backward returns the gradients of the arrays that were given.
#pragma once
#include "bind/border.h"

namespace onepass::bind {

// `saved` of a norm's call, forward's to make and backward's to read.
constexpr Argument kSavedStatistics[] = {{"statistics", saved, made}};

// Running and saved statistics, of those that the contract has.
template <const Contract& kContract, class Call>
void place_statistics(const BorderOf<kContract>& b, Call* call) {
  place<kContract.find("running_mean")>(b, &call->running_mean);
  place<kContract.find("running_var")>(b, &call->running_var);
  place<kContract.find("statistics")>(b, &call->saved);
}

namespace detail {
template <int i, const Contract& kForward>
PyObject* kept(const BorderOf<kForward>& b) {
  constexpr unsigned kUse = kForward.arguments[i].use;
  if constexpr (kUse & (dense | made)) {
    return b.has(i) ? b[i].object : Py_None;
  } else {
    return b.given(i);
  }
}
template <const Contract& kBackward, const Contract& kForward, size_t... I>
py::tuple kept_for(const BorderOf<kForward>& b, std::index_sequence<I...>) {
  PyObject* const all[] = {kept<kForward.position(kBackward.arguments[1 + I].name)>(b)...};
  py::tuple tuple(sizeof...(I));
  for (size_t i = 0; i < sizeof...(I); ++i) {
    Py_INCREF(all[i]);
    PyTuple_SET_ITEM(tuple.ptr(), Py_ssize_t(i), all[i]);
  }
  return tuple;
}
}  // namespace detail

// The arguments of backward after dy, up to its results: forward's arguments of the same names.
// drops: forward took part in dropout; otherwise backward's dropout_p is 0.
template <const Contract& kBackward, const Contract& kForward>
py::tuple kept_for(const BorderOf<kForward>& b, bool drops) {
  static_assert(kBackward.position("dy") == 0, "dy comes first");
  constexpr int kShare = kBackward.find("share");
  constexpr int kKept = (kShare < 0 ? kBackward.position("out") : kShare) - 1;
  constexpr int kDropout = kBackward.position("dropout_p") - 1;
  py::tuple tuple = detail::kept_for<kBackward>(b, std::make_index_sequence<kKept>{});
  if (!drops) tuple[kDropout] = py::float_(0.0);
  return tuple;
}

// Running statistics come together or not at all.
template <const Contract& kContract>
void check_running_pair(const BorderOf<kContract>& b, int mean, int var) {
  if (b.has(mean) != b.has(var))
    value_error(b.op(), std::string("'running_mean' and 'running_var' belong together, but '") +
                            (b.has(mean) ? "running_var" : "running_mean") + "' is None");
}

// What a backward takes first, of what forward has kept after the gradient.
constexpr Argument kKeptArrays[] = {
    {"dy", like_reference, read | dense | aliased},
    {"x", reference, read | dense},
    {"weight", per_channel, read | optional},
    {"bias", per_channel, read | optional},
    {"residual", like_reference, read | dense | optional},
    {"statistics", saved, read | packed},
};
// The results of backward: that of x, to which a caller may give memory, and the others.
constexpr Argument kInputGradient[] = {{"out", like_reference, write}};
constexpr Argument kOtherGradients[] = {
    {"dweight", per_channel, made},
    {"dbias", per_channel, made},
    {"dresidual", like_reference, made},
};
template <const Contract& kBackward>
struct Gradients {
  static constexpr int kWeight = kBackward.position("weight"), kBias = kBackward.position("bias");
  static constexpr int kResidual = kBackward.position("residual");
  static constexpr int kDx = kBackward.find("out"), kDweight = kBackward.position("dweight");
  static constexpr int kDbias = kBackward.position("dbias");
  static constexpr int kDresidual = kBackward.position("dresidual");
};
// Arrays that were not given get no gradient.
template <const Contract& kBackward>
void leave_out_gradients(BorderOf<kBackward>* b) {
  using Of = Gradients<kBackward>;
  if (!b->has(Of::kWeight)) b->leave_out(Of::kDweight);
  if (!b->has(Of::kBias)) b->leave_out(Of::kDbias);
  if (!b->has(Of::kResidual)) b->leave_out(Of::kDresidual);
}
// (dx, dweight, dbias), and dresidual if there is a residual.
template <const Contract& kBackward>
py::object gradients_of(const BorderOf<kBackward>& b) {
  using Of = Gradients<kBackward>;
  const py::object dx = b.result(Of::kDx);
  const py::object dweight = b.result(Of::kDweight), dbias = b.result(Of::kDbias);
  if (!b.has(Of::kResidual)) return py::make_tuple(dx, dweight, dbias);
  return py::make_tuple(dx, dweight, dbias, b.result(Of::kDresidual));
}

}  // namespace onepass::bind
