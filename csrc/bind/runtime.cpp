// The process's settings: instruction-set level, threads, test backends; the list of kernels, and
// the kernels for other extensions.
#include <cstdlib>
#include <string>

#include "bind/fast.h"
#include "bind/kernel_info.h"
#include "bind/scalar.h"
#include "bind/target.h"
#include "core/lent.h"
#include "cpu/cpus.h"
#include "cpu/default_threads.h"
#include "cpu/dispatch.h"
#include "cpu/parallel.h"

// Tells this library from others of the same name: see python/onepass/_threadpools.py.
extern "C" __attribute__((visibility("default"))) int onepass_pool() {
  return onepass::get_num_threads();
}

namespace onepass::bind {
namespace {

py::object current_level(Arguments given) {
  given.expect("cpu_level", 0);
  return py::str(cpu_backend().name);
}

py::object levels(Arguments given) {
  given.expect("cpu_levels", 0);
  py::list names;
  for (const std::string& level : cpu_levels()) names.append(level);
  return names;
}

py::object choose_level(Arguments given) {
  constexpr const char* kOp = "set_cpu_level";
  given.expect(kOp, 1);
  const std::string level(string(kOp, "level", given[0]));
  if (set_cpu_level(level)) return py::none();
  std::string known;
  for (const std::string& each : cpu_levels()) known += (known.empty() ? "" : ", ") + each;
  value_error(kOp, "level is '" + level + "', this processor and build have " + known);
}

py::object threads(Arguments given) {
  given.expect("get_num_threads", 0);
  return py::int_(get_num_threads());
}

py::object thread_limits(Arguments given) {
  given.expect("thread_limits", 0);
  const int quota = quota_cpus();
  const char* const variable = num_threads_variable();
  py::dict found;
  found["processors"] = machine_cpus();
  found["affinity"] = affinity_cpus();
  found["quota"] = quota > 0 ? py::object(py::int_(quota)) : py::none();
  found["variable"] = variable ? py::object(py::str(variable)) : py::none();
  found["default"] = default_num_threads();
  return found;
}

py::object choose_threads(Arguments given) {
  constexpr const char* kOp = "set_num_threads";
  constexpr int64_t kMost = 1024;
  given.expect(kOp, 1);
  const int64_t n = signed_64(kOp, "n", given[0]);
  if (n < 1 || n > kMost)
    value_error(kOp, is("n", given[0]) + ", expected 1 <= n <= " + std::to_string(kMost));
  set_num_threads(int(n));
  return py::none();
}

// The table in a capsule; null for None.
const Backend* backend_of(PyObject* capsule) {
  if (capsule == Py_None) return nullptr;
  const void* table = PyCapsule_GetPointer(capsule, "onepass.Backend");
  if (!table) throw py::error_already_set();
  return static_cast<const Backend*>(table);
}

py::object choose_test_backend(Arguments given) {
  given.expect("set_test_backend", 1);
  set_test_backend(backend_of(given[0]));
  return py::none();
}

py::object choose_test_cuda_backend(Arguments given) {
  given.expect("set_test_cuda_backend", 1);
  set_test_cuda_backend(backend_of(given[0]));
  return py::none();
}

py::tuple tuple_of(const std::vector<const char*>& names) {
  py::tuple t(names.size());
  for (size_t i = 0; i < names.size(); ++i) t[i] = py::str(names[i]);
  return t;
}

py::dict describe(const KernelInfo& info) {
  int reads = 0, writes = 0;
  for (const Access access : info.accesses) {
    reads += access == Access::read || access == Access::read_write;
    writes += access == Access::write || access == Access::read_write;
  }
  py::dict d;
  d["name"] = info.name;
  d["kind"] = info.kind;
  d["operands"] = tuple_of(info.operands);
  d["optional"] = py::tuple();
  d["hyper"] = tuple_of(info.hyper);
  d["counts_steps"] = false;
  d["scalars"] = py::tuple();
  d["starts"] = py::tuple();
  d["norms"] = py::tuple();
  d["factors"] = py::tuple();
  d["reads"] = reads;
  d["writes"] = writes;
  return d;
}
// Operands, reads and writes are those of the variant without optional states.
py::dict describe(const RuleInfo& rule) {
  py::dict d = describe(rule.variants[0]);
  d["optional"] = tuple_of(rule.optional);
  d["counts_steps"] = rule.counts_steps;
  d["scalars"] = tuple_of(rule.scalars);
  py::tuple starts(rule.scalars.size());
  for (size_t i = 0; i < rule.scalars.size(); ++i) starts[i] = py::float_(rule.starts[i]);
  d["starts"] = starts;
  d["norms"] = tuple_of(rule.norms);
  d["factors"] = tuple_of(rule.factors);
  return d;
}

py::object kernels(Arguments given) {
  given.expect("kernels", 0);
  py::list all;
  for (const KernelInfo& info : activations()) all.append(describe(info));
  for (const KernelInfo& info : activation_backwards()) all.append(describe(info));
  all.append(describe(dropout_info()));
  for (const LossInfo& info : losses()) all.append(describe(info));
  for (const RuleInfo& rule : rules()) all.append(describe(rule));
  return all;
}

UpdateRow update_row(int32_t rule) {
  if (rule < 0 || size_t(rule) >= rules().size()) return {};
  const RuleInfo& info = rules()[size_t(rule)];
  return {int32_t(info.hyper.size()), int32_t(info.scalars.size()), info.counts_steps, info.advance,
          info.advances_first};
}

py::object lent(Arguments given) {
  given.expect("lent", 0);
  static const Lent all{&cpu_backend, &parallel_for, &update_row, &passes_of};
  return py::capsule(static_cast<const void*>(&all), lent_name());
}

py::object cuda_built(Arguments given) {
  given.expect("cuda_built", 0);
#ifdef ONEPASS_CUDA_BUILT
  return py::bool_(true);
#else
  return py::bool_(false);
#endif
}

}  // namespace

void define_runtime(py::module_& m) {
  if (const char* variable = misspelt_num_threads()) {
    const std::string text = std::string("onepass: ") + variable + " is '" + std::getenv(variable) +
                             "', expected a number of threads, 1 to 1024; it is ignored";
    if (PyErr_WarnEx(PyExc_RuntimeWarning, text.c_str(), 1) != 0) throw py::error_already_set();
  }
  define(m, "cpu_level()", &fast<&current_level>);
  define(m, "cpu_levels()", &fast<&levels>);
  define(m, "set_cpu_level(level)", &fast<&choose_level>);
  define(m, "get_num_threads()", &fast<&threads>);
  define(m, "thread_limits()", &fast<&thread_limits>);
  define(m, "set_num_threads(n)", &fast<&choose_threads>);
  define(m, "kernels()", &fast<&kernels>);
  define(m, "set_test_backend(capsule)", &fast<&choose_test_backend>);
  define(m, "set_test_cuda_backend(capsule)", &fast<&choose_test_cuda_backend>);
  define(m, "cuda_built()", &fast<&cuda_built>);
  define(m, "lent()", &fast<&lent>);
}

}  // namespace onepass::bind
