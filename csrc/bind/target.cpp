#include "bind/target.h"

#include <algorithm>
#include <mutex>
#include <string>

#include "bind/kept.h"

namespace onepass::bind {
namespace {

// A function of onepass._cuda_memory, which asks the library of the caller's arrays.
class LibraryFunction {
 public:
  explicit constexpr LibraryFunction(const char* name) : name_(name) {}
  template <class... Given>
  py::object operator()(const Given&... given) {
    PyObject* const function = kept_.get(
        [this] { return py::object(py::module_::import("onepass._cuda_memory").attr(name_)); });
    return py::handle(function)(given...);
  }

 private:
  const char* name_;
  Kept kept_;
};
LibraryFunction synchronize_device("synchronize"), lend_memory("lend"), read_memory("read_back"),
    overwrite_memory("overwrite"), order_streams("order"), keep_memory("keep_for_graph");

// ---- labels out of range

// The words of the devices on which a cross_entropy has run.
struct LabelWord {
  int device;
  volatile uint32_t* word;
};
std::mutex label_lock;
std::vector<LabelWord>& label_words() {  // with the lock
  static std::vector<LabelWord>& words = *new std::vector<LabelWord>;
  return words;
}

// ---- errors

std::string cure_of(const std::string& error) {
  auto says = [&](const char* text) { return error.find(text) != std::string::npos; };
  if (says("captur"))
    return "call it once with the same arrays before the capture begins, or outside of it";
  if (says("illegal") || says("unspecified launch") || says("misaligned") || says("assert"))
    return "a kernel that ran earlier, perhaps another library's, has broken the CUDA context: run "
           "with CUDA_LAUNCH_BLOCKING=1 to find it, and start the process anew";
  if (says("memory")) return "free memory on the device";
  return "this call's results are not valid";
}

const char* last_error(const Target& target) {
  return target.backend->last_error ? target.backend->last_error() : nullptr;
}

[[noreturn]] void raise(const Target& target, const char* text) {
  const std::string error = text ? text : "unknown error";
  throw std::runtime_error(std::string(target.op) + ": CUDA device " +
                           std::to_string(target.device) + " reports: " + error + "; " +
                           cure_of(error));
}

}  // namespace

void set_test_cuda_backend(const Backend* backend) {
  replace_cuda_backend(backend);
  const std::lock_guard<std::mutex> lock(label_lock);
  label_words().clear();
}

uint32_t* label_word(const Target& target) {
  uint32_t* word = target.backend->host_word(target.device);
  if (!word) raise(target, last_error(target));
  const std::lock_guard<std::mutex> lock(label_lock);
  auto& words = label_words();
  if (std::none_of(words.begin(), words.end(),
                   [&](const LabelWord& w) { return w.device == target.device; }))
    words.push_back({target.device, word});
  return word;
}

static bool take_bad_label(int32_t device) {
  const std::lock_guard<std::mutex> lock(label_lock);
  for (const LabelWord& w : label_words()) {
    if (w.device != device || !*w.word) continue;
    *w.word = 0;
    return true;
  }
  return false;
}

void check_labels(const Target& target) {
  if (!take_bad_label(target.device)) return;
  throw py::index_error(
      std::string(target.op) + ": an earlier cross_entropy on CUDA device " +
      std::to_string(target.device) +
      " met labels outside [0, C), C being the number of classes: its loss is NaN and the gradient "
      "of those rows zero; check the labels, or set ONEPASS_CUDA_CHECK=1 to have the call itself "
      "wait and raise. This call has changed nothing and can be made again");
}

bool labels_were_bad(const Target& target) {
  synchronize_device(py::handle(target.like), target.device);
  return take_bad_label(target.device);
}

py::object lend(const Target& target, int64_t count, const char* dtype, bool zeroed) {
  return lend_memory(py::handle(target.like), count, dtype, target.device,
                     reinterpret_cast<uintptr_t>(target.stream), zeroed);
}

void* pointer_of(const py::object& array) {
  View v;
  if (view(array.ptr(), &v) != ViewError::none)
    throw std::runtime_error("memory of an unknown kind was lent");
  return v.data;
}

void keep_for_graph(const py::object& array) { keep_memory(array); }

py::object read_back(const Target& target, const py::object& array) {
  return read_memory(array, target.device, reinterpret_cast<uintptr_t>(target.stream));
}

void overwrite(const Target& target, const py::object& array, const py::list& values) {
  overwrite_memory(array, values, target.device, reinterpret_cast<uintptr_t>(target.stream));
}

// ---- running

static bool enter(const Target& target) {
  const int entered = target.backend->enter_device(target.device);
  if (entered < 0) raise(target, last_error(target));
  return entered > 0;
}

bool captures(const Target& target) {
  if (!target.backend->captures) return false;
  const bool entered = enter(target);
  const bool captured = target.backend->captures(target.stream);
  if (entered) target.backend->leave_device();
  return captured;
}

static void order(const Target& target, void* first, void* then) {
  order_streams(reinterpret_cast<uintptr_t>(first), reinterpret_cast<uintptr_t>(then),
                target.device);
}

void Launches::begin() {
  for (void* other : target_.others) order(target_, other, target_.stream);
  entered_ = enter(target_);
}

void Launches::check() const {
  if (const char* error = last_error(target_)) raise(target_, error);
}

void Launches::finish() const {
  for (void* other : target_.others) order(target_, target_.stream, other);
}

}  // namespace onepass::bind
