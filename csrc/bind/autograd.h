// PyTorch's autograd does not see our calls. So a call that autograd would have to record is
// refused, and every in-place write is reported to autograd.
#pragma once
#include "bind/array.h"

namespace onepass::bind {

// TypeError if torch records what happens to this tensor: it requires a gradient and grad mode is
// on, or it carries a forward-mode tangent. The result would be cut off from both.
void refuse_recorded(const Array& tensor);

// ValueError if an optimizer cannot train this tensor, as in torch: its history would be of values
// that the step has replaced.
void refuse_non_leaf(const Array& tensor);

// Reads an argument that autograd must not be recording. Costs other libraries one comparison.
inline void open_detached(Array* a, const char* op, const char* name, PyObject* object,
                          int64_t index = -1) {
  open(a, op, name, object, index);
  if (a->library == Library::torch) refuse_recorded(*a);
}

// Tells autograd, which counts in-place writes, that a tensor was written.
void mark_written(py::handle tensors);
inline void mark_written(const Array& a) {
  if (a.library == Library::torch && !a.made) mark_written(py::handle(a.object));
}

}  // namespace onepass::bind
