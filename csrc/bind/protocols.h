// The readers behind view(), one per library or exchange protocol, and their shared code. Each
// fills a View from an object whose type offers the protocol.
#pragma once
#include <string>
#include <utility>

#include "bind/dlpack.h"
#include "bind/view.h"

namespace onepass::bind {

// ---- view_numpy.cpp

void view_numpy(PyObject* object, View* out);
bool is_numpy_dtype(PyObject* object);
Element numpy_element(PyObject* dtype);

// ---- view_dlpack.cpp

// The table of C functions that a type publishes; null if it has none that is usable.
const dlpack::ExchangeApi* exchange_api(PyTypeObject* type);
ViewError view_exchange(PyObject* object, const dlpack::ExchangeApi& api, bool ask_negated,
                        View* out);
ViewError view_dlpack(PyObject* object, View* out);
// A new tensor on the CPU, in C order; null if the table has no functions for that.
py::object allocate(const dlpack::ExchangeApi& api, Element element, const int64_t* shape,
                    int32_t ndim);
// (device type, index); false if the object does not answer with two integers.
bool dlpack_device(py::handle object, std::pair<int32_t, int32_t>* place);

// ---- view_cuda.cpp

void view_cupy(PyObject* object, View* out);
void view_cuda_interface(PyObject* object, const py::dict& facts, View* out);

// ---- view.cpp

// A new CPU tensor of PyTorch in C order, like `like` of the same library, without the interpreter,
// which takes three times as long; null where its type does not offer that. Its storage cannot be
// resized.
py::object new_tensor(PyObject* like, Element element, const int64_t* shape, int32_t ndim);

// An integer type of 1, 2, 4 or 8 bytes.
Element integer_element(bool is_signed, size_t bytes);
// Room for shape and strides if no object holds them; the View's owner keeps it alive.
int64_t* own_dimensions(View* out, int64_t count);
// Strides of a dense array in C order, in elements.
void dense_strides(View* out);

}  // namespace onepass::bind
