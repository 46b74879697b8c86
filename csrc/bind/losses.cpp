// cross_entropy: loss and gradient in one pass. On the CPU labels are checked before anything is
// written; on a device the kernel checks them, and the next call on that device raises.
#include <cstdlib>
#include <cstring>
#include <limits>

#include "bind/border.h"

namespace onepass::bind {
namespace {

constexpr const char* kOp = "cross_entropy";

template <class T>
void widen(const void* from, std::vector<int64_t>* to) {
  const T* labels = static_cast<const T*>(from);
  for (size_t i = 0; i < to->size(); ++i) {
    // A label that int64 cannot hold is out of range anyhow.
    const bool fits =
        uint64_t(labels[i]) <= uint64_t(std::numeric_limits<int64_t>::max()) || std::is_signed_v<T>;
    (*to)[i] = fits ? int64_t(labels[i]) : std::numeric_limits<int64_t>::max();
  }
}

void widen(const Array& labels, std::vector<int64_t>* to) {
  to->resize(size_t(labels.size()));
  switch (labels.element) {
    case Element::i8:
      return widen<int8_t>(labels.data, to);
    case Element::i16:
      return widen<int16_t>(labels.data, to);
    case Element::i32:
      return widen<int32_t>(labels.data, to);
    case Element::u8:
      return widen<uint8_t>(labels.data, to);
    case Element::u16:
      return widen<uint16_t>(labels.data, to);
    case Element::u32:
      return widen<uint32_t>(labels.data, to);
    case Element::u64:
      return widen<uint64_t>(labels.data, to);
    default:
      return widen<int64_t>(labels.data, to);
  }
}

bool in_range(const int64_t* labels, int64_t count, int64_t classes, int64_t ignored) {
  bool all = true;
  for (int64_t i = 0; i < count; ++i)
    all &= (uint64_t(labels[i]) < uint64_t(classes)) | (labels[i] == ignored);
  return all;
}

[[noreturn]] void label_error(const Array& target, const int64_t* labels, int64_t classes,
                              int64_t ignored) {
  int64_t i = 0;
  while (labels[i] == ignored || uint64_t(labels[i]) < uint64_t(classes)) ++i;
  std::vector<int64_t> position(size_t(target.ndim));
  int64_t rest = i;
  for (int d = target.ndim - 1; d >= 0; --d) {
    position[size_t(d)] = rest % target.shape[d];
    rest /= target.shape[d];
  }
  const bool wide = target.element == Element::u64;  // int64 may not hold it
  const std::string label = wide ? std::to_string(static_cast<const uint64_t*>(target.data)[i])
                                 : std::to_string(labels[i]);
  throw py::index_error(std::string(kOp) + ": " + target.label() + " holds " + label + " at " +
                        shape_text(position.data(), target.ndim) + ", expected 0 <= label < " +
                        std::to_string(classes) + ", or ignore_index " + std::to_string(ignored));
}

void run_on_cpu(const Target& where, CrossEntropy* call, const Array& target, bool probabilities) {
  std::vector<int64_t> wide;
  if (!probabilities && target.element == Element::i64) {
    call->labels = static_cast<const int64_t*>(target.data);
  } else if (!probabilities) {
    widen(target, &wide);
    call->labels = wide.data();
  }
  bool labels_fine = true;
  {
    const ReleaseGil released(call->outer * call->classes * call->inner);
    if (call->labels)
      labels_fine =
          in_range(call->labels, call->outer * call->inner, call->classes, call->ignore_index);
    if (labels_fine) where.backend->cross_entropy(*call);
  }
  if (!labels_fine) label_error(target, call->labels, call->classes, call->ignore_index);
}

// ---- on a device labels are never read by the host: the kernel tells through a word

void set_device_labels(const Target& where, CrossEntropy* call, Array* target) {
  if (target->element != Element::i64) {
    py::object wide = convert(*target, "int64");
    *target = Array{};
    open(target, kOp, "target", wide.ptr());
    target->made = std::move(wide);
  }
  call->labels = static_cast<const int64_t*>(target->data);
  call->bad_label = label_word(where);
}

bool checks_labels() {
  const char* wanted = std::getenv("ONEPASS_CUDA_CHECK");
  return wanted && std::strcmp(wanted, "1") == 0;
}

void check_labels_now(const Target& where, const CrossEntropy& call) {
  if (!labels_were_bad(where)) return;
  throw py::index_error(
      std::string(kOp) + ": 'target' holds a label out of range, expected 0 <= label < " +
      std::to_string(call.classes) + ", or ignore_index " + std::to_string(call.ignore_index) +
      "; the loss is NaN, the gradient of those rows zero");
}

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
  enum { kLogits, kTarget, kWeight, kOut, kSmoothing, kIgnored, kReduction, kLosses, kLoss };
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
  const bool probabilities = b[kTarget].floating();
  call.logits = b.data(kLogits);
  call.dlogits = b.data(kOut);
  call.losses = b.data(kLosses);
  call.weight = b.vector(kWeight);
  if (b.has(kLoss)) call.loss = b.vector(kLoss);
  if (probabilities) call.probabilities = b.data(kTarget);
  py::object total = b[kLosses].made;
  if (where.on_device()) {
    if (!probabilities) set_device_labels(where, &call, &b[kTarget]);
    if (b.has(kLoss)) total = b[kLoss].made;
    run(where, where.backend->cross_entropy, &call, b.first().size());
    if (call.labels && checks_labels()) check_labels_now(where, call);
  } else {
    double sum = 0;
    if (!total) call.loss = {&sum, DType::f64};
    run_on_cpu(where, &call, b[kTarget], probabilities);
    if (!total) total = scalar(sum, b.first());
  }
  b.finish();
  return py::make_tuple(total, b.result(kOut));
}

}  // namespace

void define_losses(py::module_& m) { define(m, kCrossEntropy, &fast<&cross_entropy>); }

}  // namespace onepass::bind
