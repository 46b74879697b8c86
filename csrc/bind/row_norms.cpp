// Norms over rows and what follows them, forward and backward: layer_norm, rms_norm, group_norm,
// instance_norm; and weight_norm, which nothing follows.
#include <functional>
#include <memory>
#include <numeric>

#include "bind/channels.h"
#include "bind/norm.h"
#include "kernels/row_norm_list.h"

namespace onepass::bind {
namespace {

// ---- what a row is

int64_t product(const int64_t* extents, int count) {
  return std::accumulate(extents, extents + count, int64_t(1), std::multiplies<>());
}

// The last axes, which are those of a tuple.
void rows_of_shape(Border* b, RowNorm* call, int given) {
  const Array& x = b->first();
  const char* const name = "normalized_shape";
  const Items items(b->op(), name, b->given(given));
  const int count = int(items.count()), first = x.ndim - count;
  int64_t extents[kMaxAxes];
  bool fits = count > 0 && first >= 0;
  for (int i = 0; i < count && i < kMaxAxes; ++i) {
    extents[i] = signed_64(b->op(), name, items[i]);
    fits = fits && extents[i] == x.shape[first + i];
  }
  if (!fits)
    value_error(b->op(), is(name, b->given(given)) + ", expected the last extents of " + x.label() +
                             ", which has shape " + shape_text(x));
  call->outer = product(x.shape, first);
  call->groups = call->inner = 1;
  call->channels = product(extents, count);
  b->set(Shape::channel, extents, count, ": that of normalized_shape");
}

// Groups of the channels of (N, C, ...).
void rows_of_groups(Border* b, RowNorm* call, int given) {
  const Array& x = b->first();
  if (x.ndim < 2)
    value_error(b->op(), x.label() + " has shape " + shape_text(x) +
                             ", expected two axes or more: (N, C, ...)");
  const int64_t groups = b->integer(given), channels = x.shape[1];
  if (groups < 1 || channels % groups != 0)
    value_error(b->op(), is("num_groups", b->given(given)) + ", expected a divisor of the " +
                             std::to_string(channels) + " channels of " + x.label() +
                             ", which has shape " + shape_text(x));
  call->outer = x.shape[0];
  call->groups = groups;
  call->channels = channels / groups;
  call->inner = product(x.shape + 2, x.ndim - 2);
  // As in PyTorch, which takes several samples: each value gives the bias.
  if (call->outer == 1 && call->channels * call->inner == 1)
    value_error(b->op(), x.label() + " has shape " + shape_text(x) +
                             ": one value per group has no variance; use fewer groups, or larger "
                             "inputs");
  b->set(Shape::channel, {channels}, ": one value per channel");
}

// Each channel of each sample of (N, C, L, ...).
void rows_of_channels(Border* b, RowNorm* call, int) {
  const Array& x = b->first();
  if (x.ndim < 3)
    value_error(b->op(), x.label() + " has shape " + shape_text(x) +
                             ", expected three axes or more: (N, C, L), (N, C, H, W), ...");
  call->outer = x.shape[0];
  call->groups = x.shape[1];
  call->channels = 1;
  call->inner = product(x.shape + 2, x.ndim - 2);
  if (call->inner == 1 && call->outer * call->groups > 0)
    value_error(b->op(), x.label() + " has shape " + shape_text(x) +
                             ": one value per channel of a sample has no variance; use "
                             "batch_norm, or larger inputs");
  b->set(Shape::channel, {call->groups}, ": one value per channel");
}

// Each row of the first axis.
void rows_of_weight(Border* b, RowNorm* call, int) {
  const Array& v = b->first();
  if (v.ndim < 1) value_error(b->op(), v.label() + " has shape (), expected one axis or more");
  call->outer = call->channels = 1;
  call->groups = v.shape[0];
  call->inner = product(v.shape + 1, v.ndim - 1);
  b->set(Shape::channel, {call->groups}, ": one value per row");
}

// option: the argument that says what a row is, "" where none does.
struct RowKind {
  void (*set)(Border* b, RowNorm* call, int given);
  const char* option;
};
constexpr RowKind kLastAxes = {rows_of_shape, "normalized_shape"};
constexpr RowKind kGroups = {rows_of_groups, "num_groups"};
constexpr RowKind kChannels = {rows_of_channels, ""};
constexpr RowKind kFirstAxis = {rows_of_weight, ""};

// ---- tables

constexpr Argument kForwardArrays[] = {
    {"x", reference, read | dense},         {"weight", per_channel, read | optional},
    {"bias", per_channel, read | optional}, {"residual", like_reference, read | dense | optional},
    {"out", like_reference, write},
};
constexpr Argument kNormalizedShape[] = {extents("normalized_shape")};
constexpr Argument kNumGroups[] = {integer("num_groups")};
constexpr Argument kRunning[] = {
    {"running_mean", per_channel, update | optional},
    {"running_var", per_channel, update | optional},
    number("momentum", 0, 1),
};
constexpr Argument kEps[] = {number("eps", 0, kLargest)};

constexpr auto kShapedTable =
    join(kForwardArrays, kNormalizedShape, kEps, kEpilogueArguments, kSavedStatistics);
constexpr auto kShapedBackwardTable =
    join(kKeptArrays, kNormalizedShape, kEpilogueArguments, kInputGradient, kOtherGradients);
constexpr auto kGroupTable =
    join(kForwardArrays, kNumGroups, kEps, kEpilogueArguments, kSavedStatistics);
constexpr auto kGroupBackwardTable =
    join(kKeptArrays, kNumGroups, kEpilogueArguments, kInputGradient, kOtherGradients);
constexpr auto kInstanceTable =
    join(kForwardArrays, kRunning, kEps, kEpilogueArguments, kSavedStatistics);
constexpr auto kInstanceBackwardTable =
    join(kKeptArrays, kEpilogueArguments, kInputGradient, kOtherGradients);

constexpr Contract kLayer = contract("layer_norm", kShapedTable.at);
constexpr Contract kLayerBackward = contract("layer_norm_backward", kShapedBackwardTable.at);
constexpr Contract kRms = contract("rms_norm", kShapedTable.at);
constexpr Contract kRmsBackward = contract("rms_norm_backward", kShapedBackwardTable.at);
constexpr Contract kGroup = contract("group_norm", kGroupTable.at);
constexpr Contract kGroupBackward = contract("group_norm_backward", kGroupBackwardTable.at);
constexpr Contract kInstance = contract("instance_norm", kInstanceTable.at);
constexpr Contract kInstanceBackward =
    contract("instance_norm_backward", kInstanceBackwardTable.at);

constexpr Argument kWeightArguments[] = {
    {"v", reference, read | dense},
    {"g", per_channel, read},
    {"out", like_reference, write},
    {"statistics", saved, made},
};
constexpr Argument kWeightBackwardArguments[] = {
    {"dw", like_reference, read | dense},
    {"v", reference, read | dense},
    {"g", per_channel, read},
    {"dv", like_reference, made},
    {"dg", per_channel, made},
    {"statistics", saved, made},
};
constexpr Contract kWeight = contract("weight_norm", kWeightArguments);
constexpr Contract kWeightBackward = contract("weight_norm_backward", kWeightBackwardArguments);

// ---- calls

template <const Contract& kContract, const RowKind& kRows>
struct RowNormBorder : BorderOf<kContract> {
  explicit RowNormBorder(Arguments given) : BorderOf<kContract>(given) {
    constexpr int kActivation = kContract.find("activation");
    constexpr int kOption = kContract.find(kRows.option);
    kRows.set(this, &call, kOption);
    call.dtype = this->first().dtype();
    if constexpr (kActivation >= 0) set_epilogue(*this, &call.epilogue, &options_, kActivation);
    this->set(Shape::saved, {3, call.rows()}, ": three values per row");
  }
  template <template <class> class R>
  void run() {
    const Target target = this->check();
    place_arrays(*this, &call);
    place_statistics(*this, &call);
    run_driver<R>(target, kContract.find("dy") >= 0);
    this->finish();
  }
  // Of what has been placed.
  template <template <class> class R>
  void run_driver(const Target& target, bool backward) {
    constexpr int kIndex = host::index_in<R>(host::RowNorms{});
    const Backend& backend = *target.backend;
    std::unique_ptr<char[]> memory;
    if (!target.on_device()) {
      memory.reset(new char[size_t(workspace_bytes(backend, call))]);
      call.workspace = memory.get();
    }
    bind::run(target, (backward ? backend.row_norm_backward : backend.row_norm)[kIndex], &call,
              this->first().size());
  }

  RowNorm call{};

 private:
  ActivationOptions options_;
};

// (y, saved); saved is what backward takes after dy.
template <template <class> class R, const RowKind& kRows, const Contract& kForward,
          const Contract& kBackward>
py::object row_norm(Arguments given) {
  constexpr int kMomentum = kForward.find("momentum");
  RowNormBorder<kForward, kRows> b(given);
  b.call.eps = b.number(kForward.position("eps"));
  if constexpr (kMomentum >= 0) {
    b.call.momentum = b.number(kMomentum);
    constexpr int kMean = kForward.position("running_mean");
    constexpr int kVar = kForward.position("running_var");
    check_running_pair(b, kMean, kVar);
  }
  b.template run<R>();
  return py::make_tuple(b.result(kForward.position("out")), kept_for<kBackward, kForward>(b, true));
}
// (dx, dweight, dbias), and dresidual if there is a residual.
template <template <class> class R, const RowKind& kRows, const Contract& kBackward>
py::object row_norm_backward(Arguments given) {
  RowNormBorder<kBackward, kRows> b(given);
  leave_out_gradients<kBackward>(&b);
  b.template run<R>();
  return gradients_of<kBackward>(b);
}

py::object weight_norm(Arguments given) {
  RowNormBorder<kWeight, kFirstAxis> b(given);
  const Target target = b.check();
  place<kWeight.position("v")>(b, &b.call.x);
  place<kWeight.position("g")>(b, &b.call.weight);
  place<kWeight.position("out")>(b, &b.call.y);
  place<kWeight.position("statistics")>(b, &b.call.saved);
  b.run_driver<host::WeightNormRule>(target, false);
  b.finish();
  return b.result(kWeight.position("out"));
}
// Nothing is kept of forward: the statistics are taken again.
py::object weight_norm_backward(Arguments given) {
  constexpr int kDv = kWeightBackward.position("dv"), kDg = kWeightBackward.position("dg");
  RowNormBorder<kWeightBackward, kFirstAxis> b(given);
  const Target target = b.check();
  place<kWeightBackward.position("dw")>(b, &b.call.dy);
  place<kWeightBackward.position("v")>(b, &b.call.x);
  place<kWeightBackward.position("g")>(b, &b.call.weight);
  place<kWeightBackward.position("statistics")>(b, &b.call.saved);
  place<kDv>(b, &b.call.dx);
  place<kDg>(b, &b.call.dweight);
  b.call.takes_statistics = true;
  b.run_driver<host::WeightNormRule>(target, true);
  b.finish();
  return py::make_tuple(b.result(kDv), b.result(kDg));
}

template <template <class> class R, const RowKind& kRows, const Contract& kForward,
          const Contract& kBackward>
void define_pair(py::module_& m) {
  define(m, kForward, &fast<&row_norm<R, kRows, kForward, kBackward>>);
  define(m, kBackward, &fast<&row_norm_backward<R, kRows, kBackward>>);
}

}  // namespace

void define_row_norms(py::module_& m) {
  define_pair<host::LayerNormRule, kLastAxes, kLayer, kLayerBackward>(m);
  define_pair<host::RmsNormRule, kLastAxes, kRms, kRmsBackward>(m);
  define_pair<host::LayerNormRule, kGroups, kGroup, kGroupBackward>(m);
  define_pair<host::LayerNormRule, kChannels, kInstance, kInstanceBackward>(m);
  define(m, kWeight, &fast<&weight_norm>);
  define(m, kWeightBackward, &fast<&weight_norm_backward>);
}

}  // namespace onepass::bind
