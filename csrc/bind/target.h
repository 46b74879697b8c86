// Decides where a call runs, and runs it: the backend of the arrays' device, their library's
// current stream, and memory that this library lends. Nothing here waits for a device or allocates
// on one by itself.
#pragma once
#include <vector>

#include "bind/cuda_backend.h"
#include "bind/view.h"
#include "core/backend.h"
#include "core/workspace.h"

namespace onepass::bind {

// Below this many elements a call is shorter than handing the GIL over and back.
constexpr int64_t kKeepGil = 8192;

struct Target {
  const Backend* backend;
  const char* op = nullptr;
  int32_t device = -1;       // of CUDA; -1: the CPU
  void* stream = nullptr;    // on which the library of the first array works
  PyObject* like = nullptr;  // that array
  Library library = Library::other;
  std::vector<void*> others{};  // streams that other arrays of the call are worked on

  bool on_device() const { return device >= 0; }
};

// For tests: replaces the CUDA backend and forgets its labels; null restores it.
void set_test_cuda_backend(const Backend* backend);

// IndexError where an earlier cross_entropy on the device met a label out of range.
void check_labels(const Target& target);
// The memory that CrossEntropy::bad_label needs.
uint32_t* label_word(const Target& target);
// Waits for the device and says whether the calls until now met a label out of range, once.
bool labels_were_bad(const Target& target);

// ---- memory of the caller's pool

// An array on the target's device of `count` elements of a NumPy dtype, for work on the target's
// stream. The library's own error where there is no memory.
py::object lend(const Target& target, int64_t count, const char* dtype, bool zeroed = false);
void* pointer_of(const py::object& array);
// Whether the target's stream captures a graph.
bool captures(const Target& target);
// A graph that was captured uses it from now on.
void keep_for_graph(const py::object& array);
// The values of an array on the target's device, as a NumPy array; waits for the stream.
py::object read_back(const Target& target, const py::object& array);
// Puts integers at its beginning; waits likewise.
void overwrite(const Target& target, const py::object& array, const py::list& values);

// ---- running

class ReleaseGil {
 public:
  explicit ReleaseGil(int64_t elements)
      : state_(elements >= kKeepGil ? PyEval_SaveThread() : nullptr) {}
  ~ReleaseGil() {
    if (state_) PyEval_RestoreThread(state_);
  }
  ReleaseGil(const ReleaseGil&) = delete;
  ReleaseGil& operator=(const ReleaseGil&) = delete;

 private:
  PyThreadState* state_;
};

// While it lives, launches are possible: the device is the current one, and what the streams of all
// arrays hold comes first. run() raises what went wrong. On the CPU nothing of that is needed.
class Launches {
 public:
  explicit Launches(const Target& target) : target_(target) {
    if (target.on_device()) begin();
  }
  ~Launches() {
    if (entered_) target_.backend->leave_device();
  }
  Launches(const Launches&) = delete;
  Launches& operator=(const Launches&) = delete;

  template <class Driver, class Call>
  void run(Driver driver, const Call& call, int64_t elements) const {
    {
      const ReleaseGil released(elements);
      driver(call);
    }
    if (target_.on_device()) check();
  }
  // After the last one: the streams of the arrays go on after them.
  void finish() const;

 private:
  void begin();
  void check() const;

  const Target& target_;
  bool entered_ = false;  // another device was the current one
};

// One call on its target, with the workspace it needs.
template <class Call>
void run(const Target& target, void (*driver)(const Call&), Call* call, int64_t elements) {
  call->stream = target.stream;
  py::object workspace;
  if (target.on_device()) {
    if (const int64_t bytes = workspace_bytes(*target.backend, *call)) {
      workspace = lend(target, bytes, "uint8");
      call->workspace = pointer_of(workspace);
    }
  }
  const Launches launches(target);
  launches.run(driver, *call, elements);
  launches.finish();
}

}  // namespace onepass::bind
