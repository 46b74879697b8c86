// pointwise_loss["mse_loss"](input, target, out, reduction), … for every loss of the list: loss and
// gradient in one pass.
//
// GCC 12 folds functions of the two borders below into one, and then warns that the smaller border
// is too small to be the larger one.
#pragma GCC diagnostic ignored "-Warray-bounds"
#include <algorithm>
#include <string>
#include <vector>

#include "bind/border.h"
#include "bind/kernel_info.h"
#include "bind/layout.h"

namespace onepass::bind {
namespace {

// ---- the arrays, then the reduction, then the options of the formula

constexpr const char* kReductions = "none mean sum";
constexpr const char* kBatchReductions = "none mean sum batchmean";
enum Reduce { none, mean, sum, batchmean };

constexpr Argument kTargetArgument{"target",
                                   like_reference,
                                   read | strided,
                                   0,
                                   0,
                                   "; nothing is broadcast, so reshape one of them, or expand it"};

constexpr Argument kPlainTable[] = {
    {"input", reference, read | aliased | strided},
    kTargetArgument,
    {"out", like_reference, write | strided},
    choice("reduction", kReductions),
};
constexpr Argument kWeightedTable[] = {
    {"input", reference, read | aliased | strided},
    kTargetArgument,
    {"pos_weight", broadcast_weight, read | optional | strided},
    {"out", like_reference, write | strided},
    choice("reduction", kReductions),
};
constexpr Contract kPlain = contract("pointwise_loss", kPlainTable);
constexpr Contract kWeighted = contract("weighted_pointwise_loss", kWeightedTable);

struct Loss {
  const LossInfo& info;
  std::vector<Argument> arguments;
  Contract contract;

  Loss(const LossInfo& i, const Contract& arrays)
      : info(i), arguments(arrays.arguments, arrays.arguments + arrays.count), contract(arrays) {
    if (info.has_batch_mean) arguments.back().more = kBatchReductions;
    for (size_t o = 0; o < info.hyper.size(); ++o)
      arguments.push_back(info.ranges[o] == OptionRange::flag ? flag(info.hyper[o])
                                                              : number(info.hyper[o], 0, kLargest));
    contract.op = info.name;
    contract.arguments = arguments.data();
    contract.count += int(info.hyper.size());
    contract.given += int(info.hyper.size());
  }
};

double option(const Border& b, int i, const LossInfo& info, size_t o) {
  if (info.ranges[o] == OptionRange::flag) return b.boolean(i);
  const double value = b.number(i);
  if (info.ranges[o] == OptionRange::above_zero && value == 0)
    value_error(b.op(), is(info.hyper[o], b.given(i)) + ", expected a finite number > 0");
  return value;
}

// The divisor of the sum of all losses.
double divisor(const Border& b, int reduction) {
  const Array& x = b.first();
  if (reduction == mean) return double(x.size());
  if (reduction != batchmean) return 1;
  if (x.ndim == 0)
    value_error(b.op(),
                "'reduction' is 'batchmean', but 'input' has shape (), expected an axis of "
                "samples; use 'sum'");
  return double(x.shape[0]);
}

// An array as one that has the shape of another, to which it broadcasts.
struct Broadcast : Array {
  int64_t extents[kMaxAxes], steps[kMaxAxes];

  Broadcast(const Array& a, const Array& like) : Array(a) {
    for (int d = 0; d < like.ndim; ++d) {
      const int own = d - (like.ndim - a.ndim);
      extents[d] = like.shape[d];
      steps[d] = own < 0 || a.shape[own] == 1 ? 0 : a.strides[own];
    }
    ndim = like.ndim;
    shape = extents;
    strides = steps;
    c_order = a.c_order && a.size() == like.size();
  }
  Broadcast(const Broadcast&) = delete;
};

[[noreturn]] void refuse(const Array& a, const Refusal& refusal) {
  std::vector<int64_t> place(size_t(a.ndim));
  int64_t rest = refusal.element;
  for (int d = a.ndim - 1; d >= 0; --d) {
    place[size_t(d)] = rest % a.shape[d];
    rest /= a.shape[d];
  }
  value_error(a.op, a.label() + " holds " +
                        py::cast<std::string>(py::str(py::float_(refusal.value))) + " at " +
                        shape_text(place.data(), a.ndim) +
                        ", expected probabilities from 0 to 1; bce_with_logits takes logits");
}

template <const Contract& kArrays>
py::object pointwise_loss(Arguments given, const Loss& loss) {
  constexpr int kInput = kArrays.position("input"), kTarget = kArrays.position("target");
  constexpr int kOut = kArrays.position("out"), kReduction = kArrays.position("reduction");
  constexpr int kWeight = kArrays.find("pos_weight");
  const LossInfo& info = loss.info;
  BorderOf<kArrays> b(given, loss.contract);
  double options[Contract::kMostArguments];
  for (size_t o = 0; o < info.hyper.size(); ++o)
    options[o] = option(b, kArrays.count + int(o), info, o);
  const int reduction = b.choice(kReduction);
  PointwiseLoss call;
  call.divisor = divisor(b, reduction);
  call.hyper = options;
  const Target where = b.check();

  const Array& x = b.first();
  Array losses, total;
  if (reduction == none) {
    open_result(&losses, info.name, "losses", Py_None, x);
  } else if (where.on_device()) {
    make(&total, info.name, "loss", nullptr, 0, x);
  }
  Operand operands[kLossOperands];
  LayoutOf<kLossOperands> layout;
  const auto lay = [&](const Array* weight) {
    const Array* arrays[kLossOperands] = {&b[kOut], &b[kInput], &b[kTarget]};
    int at[kLossOperands] = {kLossGradient, kLossInput, kLossTarget}, count = 3;
    const auto add = [&](const Array* a, int operand) {
      if (!a || !*a) return;
      arrays[count] = a;
      at[count++] = operand;
    };
    add(weight, kLossPosWeight);
    add(&losses, kLosses);
    arrange(&layout, arrays, count, true);
    for (int i = 0; i < count; ++i) operands[at[i]] = layout.operands[i];
  };
  if constexpr (kWeight >= 0) {
    if (b.has(kWeight)) {
      const Broadcast weight(b[kWeight], x);
      lay(&weight);
    } else {
      lay(nullptr);
    }
  } else {
    lay(nullptr);
  }
  call.tensor.size = layout.size;
  call.tensor.shape = layout.shape;
  call.tensor.ndim = layout.ndim;
  call.tensor.computing = computing_type(x.dtype());
  call.tensor.operands = operands;

  double sum_of_all = 0;
  std::vector<double> memory;
  Refusal refusal;
  if (where.on_device()) {
    if (total) call.loss = {total.data, total.dtype()};
  } else {
    if (reduction != none) call.loss = {&sum_of_all, DType::f64};
    memory.resize(size_t(workspace_bytes(*where.backend, call)) / sizeof(double));
    call.workspace = memory.data();
    call.refusal = &refusal;
  }
  bind::run(where, where.backend->pointwise_loss[info.index], &call, layout.size);
  if (refusal.element >= 0) refuse(refusal.operand == kLossInput ? b[kInput] : b[kTarget], refusal);
  b.finish();
  py::object value = losses  ? returned(losses, x)
                     : total ? returned(total, x)
                             : scalar(sum_of_all, x);
  return py::make_tuple(std::move(value), b.result(kOut));
}

}  // namespace

void define_pointwise_losses(py::module_& m) {
  py::dict functions;
  for (const LossInfo& info : losses()) {
    // As long as the process lives.
    const Loss& loss = *new Loss(info, info.has_pos_weight ? kWeighted : kPlain);
    functions[info.name] =
        info.has_pos_weight
            ? make_function(m, loss.contract, &fast_with<&pointwise_loss<kWeighted>, Loss>, &loss)
            : make_function(m, loss.contract, &fast_with<&pointwise_loss<kPlain>, Loss>, &loss);
  }
  m.attr("pointwise_loss") = functions;
}

}  // namespace onepass::bind
