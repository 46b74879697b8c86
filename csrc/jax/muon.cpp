// Muon's step. Arguments and results are those of update.cpp; the attribute "leaves" has (rows,
// columns, size) of each parameter, 0 and 0 of a vector.
//
// Its products of matrices are NumPy's, so that Python takes the step: python/onepass/jax/_muon.py,
// on arrays that are the memory of the call.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>

#include "jax/passes.h"

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

// The numbers of the options, the rate that of this step.
py::list numbers_of(const Frame& f) {
  const Buffer hyper = f.argument(kHyper);
  std::vector<double> values(size_t(hyper.size()) / 2);
  std::memcpy(values.data(), hyper.data, values.size() * sizeof(double));
  values[0] = rate_of(f, values[0]);
  py::list numbers;
  for (const double value : values) numbers.append(value);
  return numbers;
}

void step_in_python(const Frame& f, const std::string& op, int64_t states, bool in_place) {
  double unscale = 1;
  py::object max_norm = py::none();
  if (f.argument(kMaxNorm).size() > 0) {
    const double most = max_norm_of(f);
    if (f.argument(kGradNorm).size() > 0) {
      const host::Clip by = host::clip_to(most, f.number(kGradNorm), 1);
      unscale = by.coefficient * by.rest;
    } else {
      max_norm = py::float_(most);
    }
  }
  py::list leaves, given, results;
  for (const Leaf& leaf : leaves_of(f))
    leaves.append(py::make_tuple(leaf.height, leaf.width, leaf.size));
  for (int64_t i = kStates + states + in_place; i < f.arguments(); ++i)
    given.append(array_of(f.argument(i), false));
  for (int64_t i = 2; i < f.results(); ++i) results.append(array_of(f.result(i), true));
  const int32_t count = *f.argument(kCount).as<int32_t>();
  py::module_::import("onepass.jax._muon")
      .attr("step")(op, numbers_of(f), count, unscale, max_norm, f.integer("maximize") != 0,
                    in_place, leaves, given, results);
}

}  // namespace

void muon(const Frame& f) {
  const int64_t states = f.integer("states"), first = kStates + states;
  const bool in_place = f.integer("in_place") != 0;
  for (int64_t s = 0; s < states; ++s) moved(f.argument(kStates + s), f.result(2 + s));
  const int64_t moving = f.results() - 2 - states;
  for (int64_t i = 0; i < moving; ++i)
    moved(f.argument(in_place ? first : first + moving + i), f.result(2 + states + i));
  const std::string op = f.text("op");
  const py::gil_scoped_acquire gil;
  try {
    step_in_python(f, op, states, in_place);
  } catch (const py::error_already_set& error) {
    const std::string words = py::str(error.value());
    const std::string prefix = op + ": ";  // which the handler writes
    throw Refused(words.compare(0, prefix.size(), prefix) == 0 ? words.substr(prefix.size())
                                                               : words);
  }
  *f.result(0).as<int32_t>() = count_after(f);
}

}  // namespace onepass::jax
