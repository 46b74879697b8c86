#include "bind/labels.h"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "bind/layout.h"
#include "bind/messages.h"
#include "bind/result.h"

namespace onepass::bind {
namespace {

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

// On a device the host never reads labels.
void convert_on_device(Array* target) {
  if (target->element == Element::i64) return;
  const char* const op = target->op;
  py::object wide = convert(*target, "int64");
  *target = Array{};
  open(target, op, "target", wide.ptr());
  target->made = std::move(wide);
}

std::string expected(int64_t classes, int64_t ignored) {
  return ", expected 0 <= label < " + std::to_string(classes) + ", or ignore_index " +
         std::to_string(ignored);
}

}  // namespace

Labels::Labels(const Target& where, Array* target, int64_t classes, int64_t ignored)
    : where_(where), target_(*target), classes_(classes), ignored_(ignored) {
  if (where.on_device()) {
    convert_on_device(target);
    bad_label_ = label_word(where);
  } else if (target->element != Element::i64) {
    widen(*target, &wide_);
  }
  data_ = wide_.empty() ? static_cast<const int64_t*>(target->data) : wide_.data();
}

bool Labels::in_range() const {
  bool all = true;
  const int64_t count = target_.size();
  for (int64_t i = 0; i < count; ++i)
    all &= (uint64_t(data_[i]) < uint64_t(classes_)) | (data_[i] == ignored_);
  return all;
}

void Labels::refuse() const {
  int64_t i = 0;
  while (data_[i] == ignored_ || uint64_t(data_[i]) < uint64_t(classes_)) ++i;
  std::vector<int64_t> position(size_t(target_.ndim));
  int64_t rest = i;
  for (int d = target_.ndim - 1; d >= 0; --d) {
    position[size_t(d)] = rest % target_.shape[d];
    rest /= target_.shape[d];
  }
  const bool wide = target_.element == Element::u64;  // int64 may not hold it
  const std::string label = wide ? std::to_string(static_cast<const uint64_t*>(target_.data)[i])
                                 : std::to_string(data_[i]);
  throw py::index_error(std::string(target_.op) + ": " + target_.label() + " holds " + label +
                        " at " + shape_text(position.data(), target_.ndim) +
                        expected(classes_, ignored_));
}

void Labels::check_now() const {
  const char* wanted = std::getenv("ONEPASS_CUDA_CHECK");
  if (!wanted || std::strcmp(wanted, "1") != 0 || !labels_were_bad(where_)) return;
  throw py::index_error(std::string(target_.op) + ": 'target' holds a label out of range" +
                        expected(classes_, ignored_) +
                        "; the loss is NaN, the gradient of those rows zero");
}

}  // namespace onepass::bind
