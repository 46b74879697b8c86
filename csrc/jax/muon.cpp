// Muon's step. Arguments and results are those of update.cpp; the attribute "leaves" has (rows,
// columns, size) of each parameter, 0 and 0 of a vector.
//
// Its products of matrices are NumPy's, so that Python takes the step: python/onepass/jax/_muon.py,
// on arrays that are the memory of the call.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <new>

#include "jax/step.h"
#include "kernels/gradient.h"

namespace onepass::jax {
namespace {

namespace py = pybind11;

const char* dtype_name(const Buffer& buffer) {
  switch (dtype_of(buffer)) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::f16:
      return "float16";
    default:
      return "bfloat16";
  }
}

// Memory of the call, which outlives the array.
py::array array_of(const Buffer& buffer, bool writeable) {
  const py::dtype dtype = py::dtype::from_args(py::str(dtype_name(buffer)));
  const std::vector<py::ssize_t> shape(buffer.shape, buffer.shape + buffer.ndim);
  const py::str owner("a call of XLA");  // without one the memory would be copied
  py::array array(dtype, shape, buffer.data, owner);
  if (!writeable) array.attr("setflags")(py::arg("write") = false);
  return array;
}

py::list numbers_of(const Frame& f) {
  std::vector<double> values(size_t(f.argument(kHyper).size()) / 2);
  read_hyper(f, values.data(), int64_t(values.size()));
  py::list numbers;
  for (const double value : values) numbers.append(value);
  return numbers;
}

py::list arrays_of(const std::vector<Buffer>& buffers, bool writeable) {
  py::list arrays;
  for (const Buffer& buffer : buffers) arrays.append(array_of(buffer, writeable));
  return arrays;
}

void step_in_python(const Frame& f, const std::string& op, const Parameters& all, int64_t states) {
  double unscale = 1;
  py::object max_norm = py::none();
  if (f.argument(kMaxNorm).size() > 0) {
    const double most = max_norm_of(f);
    if (f.argument(kGradNorm).size() > 0) {
      const host::Clip by = host::clip_to(most, grad_norm_of(f), 1);
      unscale = by.coefficient * by.rest;
    } else {
      max_norm = py::float_(most);
    }
  }
  py::list leaves, kept;
  for (const Leaf& leaf : all.leaves)
    leaves.append(py::make_tuple(leaf.height, leaf.width, leaf.size));
  for (int64_t s = 0; s < states; ++s) kept.append(array_of(f.result(2 + s), true));
  const py::list before = f.integer("in_place") != 0 ? py::list() : arrays_of(all.before, false);
  py::module_::import("onepass.jax._muon")
      .attr("step")(op, numbers_of(f), count_of(f.argument(kCount)), unscale, max_norm,
                    f.integer("maximize") != 0, leaves, arrays_of(all.gradients, false), before,
                    kept, arrays_of(all.after, true));
}

}  // namespace

void muon(const Frame& f) {
  const int64_t states = f.integer("states"), first = kNumbers + numbers(f);
  require(first + states <= f.arguments() && 2 + states <= f.results());
  for (int64_t s = 0; s < states; ++s) {
    require(f.argument(first + s).size() == f.result(2 + s).size());
    moved(f.argument(first + s), f.result(2 + s));
  }
  const Parameters all(f, first + states, 2 + states);
  all.move();
  const std::string op = f.text("op");
  const py::gil_scoped_acquire gil;
  try {
    step_in_python(f, op, all, states);
  } catch (const py::error_already_set& error) {
    if (error.matches(PyExc_MemoryError)) throw std::bad_alloc();
    const std::string words = py::str(error.value());
    const std::string prefix = op + ": ";  // which the handler writes
    const bool known = words.compare(0, prefix.size(), prefix) == 0;
    const std::string message = known ? words.substr(prefix.size()) : words;
    if (error.matches(PyExc_ValueError) || error.matches(PyExc_TypeError)) throw Refused(message);
    throw std::runtime_error(message);
  }
  *f.result(0).as<int32_t>() = count_after(f);
}

}  // namespace onepass::jax
