// Losses of rows, each with its gradient in one pass: cross_entropy, nll_loss, wasserstein_1d.
#include <limits>
#include <optional>
#include <type_traits>

#include "bind/border.h"
#include "bind/labels.h"

namespace onepass::bind {
namespace {

constexpr const char* kReductions = "none mean sum";

constexpr Argument kCrossEntropyTable[] = {
    {"logits", reference, read | dense | aliased},
    {"target", class_target, read},
    {"weight", per_channel, read | optional},
    {"out", like_reference, write},
    number("label_smoothing", 0, 1),
    integer("ignore_index"),
    choice("reduction", kReductions),
    {"losses", per_row, made},
    {"loss", single, made},
};
constexpr Contract kCrossEntropy = contract("cross_entropy", kCrossEntropyTable);

constexpr Argument kNllTable[] = {
    {"input", reference, read | dense | aliased},
    {"target", class_labels, read},
    {"weight", per_channel, read | optional},
    {"out", like_reference, write},
    integer("ignore_index"),
    choice("reduction", kReductions),
    {"losses", per_row, made},
    {"loss", single, made},
};
constexpr Contract kNll = contract("nll_loss", kNllTable);

constexpr Argument kWassersteinTable[] = {
    {"input", reference, read | dense | aliased},
    {"target", like_reference, read},
    {"out", like_reference, write},
    choice("reduction", kReductions),
    {"losses", per_row, made},
    {"loss", single, made},
};
constexpr Contract kWasserstein = contract("wasserstein_1d", kWassersteinTable);

// The classes are on axis 1, or last.
void set_shape(Border* b, CrossEntropy* call, bool last) {
  const Array& x = b->first();
  const int axis = last ? x.ndim - 1 : 1;
  const bool fits = last ? x.ndim > 0 : x.ndim > 1;
  if (!fits || x.shape[axis] == 0)
    value_error(b->op(), x.label() + " has shape " + shape_text(x) + ", expected " +
                             (last ? "bins along the last axis, at least one"
                                   : "(N, C) or (N, C, d1, …) with C > 0"));
  call->outer = call->inner = 1;
  for (int d = 0; d < axis; ++d) call->outer *= x.shape[d];
  call->classes = x.shape[axis];
  for (int d = axis + 1; d < x.ndim; ++d) call->inner *= x.shape[d];
  call->dtype = x.dtype();
  b->set_rows(axis);
  b->set(Shape::channel, {call->classes}, ": one weight per class");
  b->set(Shape::single, {}, "");
}

template <class C, class T>
C widened(T w) {
  if constexpr (sizeof(T) == 2)
    return host::to_float(w);
  else
    return C(w);
}

// On the CPU. With others, products, sums or quotients leave the range of their type, and a loss
// would be 0 or NaN in silence. (To look at weights on a device is to wait for it.)
template <class C, class T>
void check_weights(const char* op, const T* weight, int64_t classes) {
  constexpr C kMargin = C(1e8);
  constexpr C least = kMargin * std::numeric_limits<C>::min();
  constexpr C most = std::numeric_limits<C>::max() / kMargin;
  // By bits without the sign, which order as sizes do: that loop is vectorised.
  using Bits = std::conditional_t<sizeof(C) == 8, uint64_t, uint32_t>;
  constexpr Bits low = host::math::to_bits(least) << 1, high = host::math::to_bits(most) << 1;
  const auto outside = [](T w) -> Bits {
    const Bits size = host::math::to_bits(widened<C>(w)) << 1;
    return Bits(size - low > high - low) & Bits(size != 0);
  };
  Bits wrong = 0;
  for (int64_t c = 0; c < classes; ++c) wrong |= outside(weight[c]);
  if (!wrong) return;
  int64_t c = 0;
  while (!outside(weight[c])) ++c;
  const std::string given = py::str(py::float_(double(widened<C>(weight[c])))),
                    from = py::str(py::float_(double(least))),
                    to = py::str(py::float_(double(most)));
  value_error(op, "'weight' has " + given + " at " + std::to_string(c) +
                      ", expected 0 or a size from " + from + " to " + to + ", which " +
                      (sizeof(C) == 8 ? "float64" : "float32") + " can multiply");
}
void check_weights(const char* op, const ChannelVector& weight, int64_t classes) {
  const void* w = weight.data;
  switch (weight.dtype) {
    case DType::f32:
      return check_weights<float>(op, static_cast<const float*>(w), classes);
    case DType::f64:
      return check_weights<double>(op, static_cast<const double*>(w), classes);
    case DType::f16:
      return check_weights<float>(op, static_cast<const Half*>(w), classes);
    case DType::bf16:
      return check_weights<float>(op, static_cast<const BFloat16*>(w), classes);
  }
}

template <const Contract& kLoss, auto kDriver>
py::object row_loss(Arguments given) {
  constexpr int kTarget = kLoss.position("target"), kOut = kLoss.position("out");
  constexpr int kReduction = kLoss.position("reduction"), kWeight = kLoss.find("weight");
  constexpr int kLosses = kLoss.position("losses"), kTotal = kLoss.position("loss");
  constexpr int kSmoothing = kLoss.find("label_smoothing"), kIgnored = kLoss.find("ignore_index");
  BorderOf<kLoss> b(given);
  CrossEntropy call{};
  if constexpr (kSmoothing >= 0) call.label_smoothing = b.number(kSmoothing);
  if constexpr (kIgnored >= 0) call.ignore_index = b.integer(kIgnored);
  call.reduction = Reduction(b.choice(kReduction));
  set_shape(&b, &call, kIgnored < 0);
  const bool reduced = call.reduction != Reduction::none;
  if (reduced) b.leave_out(kLosses);
  if (!reduced || b.first().cuda_device < 0) b.leave_out(kTotal);
  const Target where = b.check();
  if constexpr (kIgnored >= 0) {
    if (b[kTarget].floating() && call.ignore_index >= 0)
      value_error(b.op(), "'ignore_index' is " + std::to_string(call.ignore_index) +
                              ", expected a negative one, such as the default, where target holds "
                              "probabilities; a weight of 0 leaves a class out");
  }
  call.logits = b.data(kLoss.reference);
  call.dlogits = b.data(kOut);
  call.losses = b.data(kLosses);
  place<kWeight>(b, &call.weight);
  if (call.weight.data && !where.on_device()) check_weights(b.op(), call.weight, call.classes);
  std::optional<Labels> labels;
  if (b[kTarget].floating()) {
    call.probabilities = b.data(kTarget);
  } else {
    labels.emplace(where, &b[kTarget], call.classes, call.ignore_index);
    call.labels = labels->data();
    call.bad_label = labels->bad_label();
  }
  double sum = 0;
  if (where.on_device()) {
    if (b.has(kTotal)) call.loss = b.vector(kTotal);
    run(where, where.backend->*kDriver, &call, b.first().size());
    if (labels) labels->check_now();
  } else {
    if (!b.has(kLosses)) call.loss = {&sum, DType::f64};
    bool fine = true;
    {
      const ReleaseGil released(call.outer * call.classes * call.inner);
      fine = !labels || labels->in_range();
      if (fine) (where.backend->*kDriver)(call);
    }
    if (!fine) labels->refuse();
  }
  b.finish();
  py::object total = b.has(kLosses)  ? b.result(kLosses)
                     : b.has(kTotal) ? b.result(kTotal)
                                     : scalar(sum, b.first());
  return py::make_tuple(std::move(total), b.result(kOut));
}

}  // namespace

void define_row_losses(py::module_& m) {
  define(m, kCrossEntropy, &fast<&row_loss<kCrossEntropy, &Backend::cross_entropy>>);
  define(m, kNll, &fast<&row_loss<kNll, &Backend::nll_loss>>);
  define(m, kWasserstein, &fast<&row_loss<kWasserstein, &Backend::wasserstein_1d>>);
}

}  // namespace onepass::bind
