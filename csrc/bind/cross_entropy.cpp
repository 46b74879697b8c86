// cross_entropy: loss and gradient in one pass.
#include <optional>

#include "bind/border.h"
#include "bind/labels.h"

namespace onepass::bind {
namespace {

constexpr const char* kOp = "cross_entropy";

constexpr Argument kTable[] = {
    {"logits", reference, read | dense | aliased},
    {"target", class_target, read},
    {"weight", per_channel, read | optional},
    {"out", like_reference, write},
    number("label_smoothing", 0, 1),
    integer("ignore_index"),
    choice("reduction", "none mean sum"),
    {"losses", per_row, made},
    {"loss", single, made},
};
constexpr Contract kCrossEntropy = contract(kOp, kTable);
constexpr int kLogits = kCrossEntropy.position("logits");
constexpr int kTarget = kCrossEntropy.position("target");
constexpr int kWeight = kCrossEntropy.position("weight");
constexpr int kOut = kCrossEntropy.position("out");
constexpr int kSmoothing = kCrossEntropy.position("label_smoothing");
constexpr int kIgnored = kCrossEntropy.position("ignore_index");
constexpr int kReduction = kCrossEntropy.position("reduction");
constexpr int kLosses = kCrossEntropy.position("losses");
constexpr int kLoss = kCrossEntropy.position("loss");

void set_shape(Border* b, CrossEntropy* call) {
  const Array& x = b->first();
  if (x.ndim < 2 || x.shape[1] == 0)
    value_error(kOp, x.label() + " has shape " + shape_text(x) +
                         ", expected (N, C) or (N, C, d1, …) with C > 0");
  call->outer = x.shape[0];
  call->classes = x.shape[1];
  call->inner = 1;
  for (int d = 2; d < x.ndim; ++d) call->inner *= x.shape[d];
  call->dtype = x.dtype();
  b->set_rows();
  b->set(Shape::channel, {call->classes}, ": one weight per class");
  b->set(Shape::single, {}, "");
}

py::object cross_entropy(Arguments given) {
  BorderOf<kCrossEntropy> b(given);
  CrossEntropy call{};
  call.label_smoothing = b.number(kSmoothing);
  call.ignore_index = b.integer(kIgnored);
  call.reduction = Reduction(b.choice(kReduction));
  set_shape(&b, &call);
  const bool reduced = call.reduction != Reduction::none;
  if (reduced) b.leave_out(kLosses);
  if (!reduced || b.first().cuda_device < 0) b.leave_out(kLoss);
  const Target where = b.check();
  call.logits = b.data(kLogits);
  call.dlogits = b.data(kOut);
  call.losses = b.data(kLosses);
  call.weight = b.vector(kWeight);
  std::optional<Labels> labels;
  if (b[kTarget].floating()) {
    call.probabilities = b.data(kTarget);
  } else {
    labels.emplace(where, &b[kTarget], call.classes, call.ignore_index);
    call.labels = labels->data();
    call.bad_label = labels->bad_label();
  }
  py::object total = b[kLosses].made;
  if (where.on_device()) {
    if (b.has(kLoss)) {
      call.loss = b.vector(kLoss);
      total = b[kLoss].made;
    }
    run(where, where.backend->cross_entropy, &call, b.first().size());
    if (labels) labels->check_now();
  } else {
    double sum = 0;
    if (!total) call.loss = {&sum, DType::f64};
    bool fine = true;
    {
      const ReleaseGil released(call.outer * call.classes * call.inner);
      fine = !labels || labels->in_range();
      if (fine) where.backend->cross_entropy(call);
    }
    if (!fine) labels->refuse();
    if (!total) total = scalar(sum, b.first());
  }
  b.finish();
  return py::make_tuple(total, b.result(kOut));
}

}  // namespace

void define_cross_entropy(py::module_& m) { define(m, kCrossEntropy, &fast<&cross_entropy>); }

}  // namespace onepass::bind
