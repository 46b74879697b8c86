// cross_entropy, and its gradient in the same pass.
#include <string>
#include <vector>

#include "jax/frame.h"

namespace onepass::jax {
namespace {

template <class T>
void widen(const Buffer& from, std::vector<int64_t>* to) {
  const T* const labels = from.as<T>();
  for (size_t i = 0; i < to->size(); ++i) (*to)[i] = int64_t(labels[i]);
}

[[noreturn]] void outside(const std::string& label, size_t i, int64_t classes, int64_t ignored) {
  throw Refused("'target' holds " + label + " at element " + std::to_string(i) +
                ", expected 0 <= label < " + std::to_string(classes) + ", or ignore_index " +
                std::to_string(ignored));
}

// As int64.
std::vector<int64_t> labels_of(const Buffer& target, int64_t classes, int64_t ignored) {
  std::vector<int64_t> labels(size_t(target.size()));
  switch (target.type) {
    case XLA_FFI_DataType_S8:
      widen<int8_t>(target, &labels);
      break;
    case XLA_FFI_DataType_S16:
      widen<int16_t>(target, &labels);
      break;
    case XLA_FFI_DataType_S32:
      widen<int32_t>(target, &labels);
      break;
    case XLA_FFI_DataType_S64:
      widen<int64_t>(target, &labels);
      break;
    case XLA_FFI_DataType_U8:
      widen<uint8_t>(target, &labels);
      break;
    case XLA_FFI_DataType_U16:
      widen<uint16_t>(target, &labels);
      break;
    case XLA_FFI_DataType_U32:
      widen<uint32_t>(target, &labels);
      break;
    case XLA_FFI_DataType_U64: {  // more than int64 holds would be negative: maybe ignore_index
      const auto* const wide = target.as<uint64_t>();
      for (size_t i = 0; i < labels.size(); ++i)
        if (wide[i] > uint64_t(INT64_MAX)) outside(std::to_string(wide[i]), i, classes, ignored);
      widen<uint64_t>(target, &labels);
      break;
    }
    default:  // of fewer bytes, beyond which it would be read
      throw Refused("'target' has another dtype than integers of 8, 16, 32 or 64 bits");
  }
  return labels;
}

void check(const std::vector<int64_t>& labels, int64_t classes, int64_t ignored) {
  bool fine = true;
  for (const int64_t label : labels)
    fine &= (uint64_t(label) < uint64_t(classes)) | (label == ignored);
  if (fine) return;
  size_t i = 0;
  while (labels[i] == ignored || uint64_t(labels[i]) < uint64_t(classes)) ++i;
  outside(std::to_string(labels[i]), i, classes, ignored);
}

}  // namespace

// (logits, target, weight) → the loss or losses, and the gradient where it is wanted
void cross_entropy(const Frame& f) {
  const Buffer logits = f.argument(0), target = f.argument(1), loss = f.result(0);
  CrossEntropy call;
  call.outer = logits.shape[0];
  call.classes = logits.shape[1];
  call.inner = logits.extent(2, logits.ndim);
  call.dtype = dtype_of(logits);
  call.logits = logits.data;
  if (f.results() > 1) call.dlogits = f.result(1).data;
  call.label_smoothing = f.real("label_smoothing");
  call.ignore_index = f.integer("ignore_index");
  call.reduction = Reduction(f.integer("reduction"));
  if (f.integer("given") != 0) call.weight = vector_of(f.argument(2));
  if (call.reduction == Reduction::none)
    call.losses = loss.data;
  else
    call.loss = vector_of(loss);
  std::vector<int64_t> labels;
  if (f.integer("probabilities") != 0) {
    call.probabilities = target.data;
  } else {
    labels = labels_of(target, call.classes, call.ignore_index);
    check(labels, call.classes, call.ignore_index);
    call.labels = labels.data();
  }
  lent().cpu().cross_entropy(call);
}

}  // namespace onepass::jax
