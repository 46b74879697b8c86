#include "bind/target.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace onepass::bind {
namespace {

// A function of onepass._cuda_memory, which asks the library of the caller's arrays.
py::handle library_function(const char* name) {
  struct Known {
    const char* name;
    PyObject* function;
  };
  static std::vector<Known>& known = *new std::vector<Known>;
  for (const Known& k : known)
    if (std::strcmp(k.name, name) == 0) return k.function;
  const py::object found = py::module_::import("onepass._cuda_memory").attr(name);
  known.push_back({name, found.inc_ref().ptr()});
  return found;
}

// ---- labels out of range

// The words of the devices on which a cross_entropy has run.
struct LabelWord {
  int device;
  volatile uint32_t* word;
};
std::vector<LabelWord>& label_words() {
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
  label_words().clear();
}

uint32_t* label_word(const Target& target) {
  uint32_t* word = target.backend->host_word(target.device);
  if (!word) raise(target, last_error(target));
  auto& words = label_words();
  if (std::none_of(words.begin(), words.end(),
                   [&](const LabelWord& w) { return w.device == target.device; }))
    words.push_back({target.device, word});
  return word;
}

static bool take_bad_label(int32_t device) {
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
  library_function("synchronize")(py::handle(target.like), target.device);
  return take_bad_label(target.device);
}

py::object lend(const Target& target, int64_t count, const char* dtype, bool zeroed) {
  return library_function("lend")(py::handle(target.like), count, dtype, target.device,
                                  reinterpret_cast<uintptr_t>(target.stream), zeroed);
}

void* pointer_of(const py::object& array) {
  View v;
  if (view(array.ptr(), &v) != ViewError::none)
    throw std::runtime_error("memory of an unknown kind was lent");
  return v.data;
}

py::object read_back(const Target& target, const py::object& array) {
  return library_function("read_back")(array, target.device,
                                       reinterpret_cast<uintptr_t>(target.stream));
}

void overwrite(const Target& target, const py::object& array, const py::list& values) {
  library_function("overwrite")(array, values, target.device,
                                reinterpret_cast<uintptr_t>(target.stream));
}

// ---- running

static void order(const Target& target, void* first, void* then) {
  library_function("order")(reinterpret_cast<uintptr_t>(first), reinterpret_cast<uintptr_t>(then),
                            target.device);
}

void Launches::begin() {
  for (void* other : target_.others) order(target_, other, target_.stream);
  before_ = target_.backend->use_device(target_.device);
  if (before_ < 0) raise(target_, last_error(target_));
}

void Launches::check() const {
  if (const char* error = last_error(target_)) raise(target_, error);
}

void Launches::finish() const {
  for (void* other : target_.others) order(target_, target_.stream, other);
}

}  // namespace onepass::bind
