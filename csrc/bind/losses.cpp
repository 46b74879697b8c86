// cross_entropy: loss and gradient in one pass. On the CPU labels are checked before anything is
// written; on a device the kernel checks them, and the next call on that device raises.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "bind/fast.h"
#include "bind/layout.h"
#include "bind/overlap.h"
#include "bind/result.h"
#include "bind/scalar.h"
#include "bind/staging.h"

namespace onepass::bind {
namespace {

constexpr const char* kOp = "cross_entropy";

// The shape of logits without the class axis: of index targets and of unreduced losses.
std::vector<int64_t> index_shape(const Array& logits) {
  std::vector<int64_t> shape(logits.shape, logits.shape + logits.ndim);
  shape.erase(shape.begin() + 1);
  return shape;
}

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
  throw py::index_error(std::string(kOp) + ": " + target.label() + " holds " +
                        std::to_string(labels[i]) + " at " +
                        shape_text(position.data(), target.ndim) + ", expected 0 <= label < " +
                        std::to_string(classes) + ", or ignore_index " + std::to_string(ignored));
}

Reduction reduction_of(PyObject* object) {
  const std::string_view name = string(kOp, "reduction", object);
  if (name == "none") return Reduction::none;
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  value_error(kOp, "reduction is " + repr(object) + ", expected 'none', 'mean' or 'sum'");
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

py::object cross_entropy(Arguments given) {
  given.expect(kOp, 7);
  enum { logits, target, weight, dlogits, losses, loss, count };
  Array a[count];
  open_dense(&a[logits], kOp, "logits", given[0]);
  open(&a[target], kOp, "target", given[1]);
  open_optional(&a[weight], kOp, "weight", given[2]);
  check_one_device(a, dlogits);
  CrossEntropy call{};
  call.label_smoothing = real(kOp, "label_smoothing", given[4]);
  if (!(call.label_smoothing >= 0 && call.label_smoothing <= 1))
    value_error(kOp,
                "label_smoothing is " + repr(given[4]) + ", expected 0 <= label_smoothing <= 1");
  call.ignore_index = signed_64(kOp, "ignore_index", given[5]);
  call.reduction = reduction_of(given[6]);

  check_floating(a[logits]);
  const Array& x = a[logits];
  if (x.ndim < 2 || x.shape[1] == 0)
    value_error(kOp, x.label() + " has shape " + shape_text(x) +
                         ", expected (N, C) or (N, C, d1, …) with C > 0");
  const std::vector<int64_t> rows = index_shape(x);
  const int row_axes = int(rows.size());
  call.outer = x.shape[0];
  call.classes = x.shape[1];
  call.inner = 1;
  for (int d = 2; d < x.ndim; ++d) call.inner *= x.shape[d];
  call.dtype = x.dtype();

  open_result(&a[dlogits], kOp, "out", given[3], x);
  if (call.reduction == Reduction::none)
    make(&a[losses], kOp, "losses", rows.data(), row_axes, x, false);
  else if (x.cuda_device >= 0)
    make(&a[loss], kOp, "loss", nullptr, 0, x);
  const Target where = check_device(a, count);
  check_dtype_like(a[dlogits], x);
  check_shape_like(a[dlogits], x);
  check_writable(a[dlogits]);
  const bool probabilities = a[target].floating();
  if (probabilities) {
    check_dtype_like(a[target], x);
    check_shape_like(a[target], x);
  } else {
    if (a[target].element == Element::boolean || a[target].element == Element::other)
      type_error(kOp, a[target].label() + " has dtype " + dtype_text(a[target]) +
                          ", expected integer class indices or probabilities like 'logits'");
    check_shape(a[target], rows.data(), row_axes, ": 'logits' without its class axis");
  }
  if (a[weight]) {
    check_floating(a[weight]);
    check_parameter_dtype(a[weight], x);
    check_shape(a[weight], &call.classes, 1, ": one weight per class");
  }
  for (const int i : {logits, target, weight}) check_overlap(a[dlogits], a[i], i == logits);

  Staging staging;
  for (const int i : {logits, dlogits, target, weight})
    if (a[i] && !a[i].c_order) staging.load(&a[i], i == dlogits);
  call.logits = a[logits].data;
  call.dlogits = a[dlogits].data;
  call.losses = a[losses].data;
  if (a[weight]) call.weight = {a[weight].data, a[weight].dtype()};
  if (a[loss]) call.loss = {a[loss].data, a[loss].dtype()};
  if (probabilities) call.probabilities = a[target].data;
  py::object total = a[losses].made;
  if (where.on_device()) {
    if (!probabilities) set_device_labels(where, &call, &a[target]);
    if (a[loss]) total = a[loss].made;
    run(where, where.backend->cross_entropy, &call, x.size());
    if (call.labels && checks_labels()) check_labels_now(where, call);
  } else {
    double sum = 0;
    if (!total) call.loss = {&sum, DType::f64};
    run_on_cpu(where, &call, a[target], probabilities);
    if (!total) total = scalar(sum, x);
  }
  staging.store();
  mark_written(a[dlogits]);
  return py::make_tuple(total, py::reinterpret_borrow<py::object>(a[dlogits].object));
}

}  // namespace

void define_losses(py::module_& m) {
  define(m, "cross_entropy(logits, target, weight, out, label_smoothing, ignore_index, reduction)",
         &fast<&cross_entropy>);
}

}  // namespace onepass::bind
