// Python module onepass_cuda_sim: the CUDA backend running in the simulator, for NumPy arrays.
//
// Plays the part of the framework that owns the device: gives every call the workspace it asks for,
// filled with 0xff, and turns what the backend reports into an exception.
//   backend()                     a capsule for onepass._C.set_test_backend
//   set_order(name, seed, resident_blocks)
//   batch_norm_path(outer, channels, inner, unit)
#include <Python.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/backend.h"
#include "cuda/paths.h"
#include "cusim.h"

extern "C" const onepass::Backend* onepass_cuda_backend();

namespace {

using namespace onepass;

const Backend& inner() { return *onepass_cuda_backend(); }

void check(bool poisoned_end) {
  const char* error = inner().last_error();
  if (error) throw std::runtime_error(error);
  if (poisoned_end) throw std::runtime_error("a kernel wrote behind its workspace");
}

template <class Call>
void run(void (*function)(const Call&), int64_t bytes, Call call) {
  constexpr int64_t kGuard = 64;
  std::vector<double> memory(size_t((bytes + kGuard) / 8 + 2));
  auto* begin = reinterpret_cast<unsigned char*>(memory.data());
  std::fill(memory.begin(), memory.end(), 0);
  begin += 16 - reinterpret_cast<uintptr_t>(begin) % 16;
  auto* end = reinterpret_cast<unsigned char*>(memory.data() + memory.size());
  std::fill(begin, end, static_cast<unsigned char>(0xff));
  call.workspace = begin;
  function(call);
  bool poisoned_end = false;
  for (auto* p = begin + bytes; p < end; ++p) poisoned_end = poisoned_end || *p != 0xff;
  check(poisoned_end);
}

template <auto kMember>
void elementwise(const Elementwise& call) {
  run(inner().*kMember, inner().elementwise_workspace(call), call);
}
template <auto kMember, int kIndex>
void elementwise_at(const Elementwise& call) {
  run((inner().*kMember)[kIndex], inner().elementwise_workspace(call), call);
}
void norm(const Norm& call) { run(inner().norm, inner().norm_workspace(call), call); }
template <auto kMember>
void channelwise(const Channelwise& call) {
  run(inner().*kMember, inner().channelwise_workspace(call), call);
}
template <auto kMember>
void batch_norm(const BatchNorm& call) {
  run(inner().*kMember, inner().channelwise_workspace(call), call);
}
void cross_entropy(const CrossEntropy& call) {
  run(inner().cross_entropy, inner().cross_entropy_workspace(call), call);
}

template <auto kMember, int... I>
void fill(void (*(&table)[kMaxKernels])(const Elementwise&), std::integer_sequence<int, I...>) {
  ((table[I] = (inner().*kMember)[I] ? &elementwise_at<kMember, I> : nullptr), ...);
}

Backend make_backend() {
  Backend b = inner();
  b.name = "cuda_sim";
  constexpr auto kAll = std::make_integer_sequence<int, kMaxKernels>{};
  fill<&Backend::activation>(b.activation, kAll);
  fill<&Backend::activation_backward>(b.activation_backward, kAll);
  fill<&Backend::update>(b.update, kAll);
  b.dropout = &elementwise<&Backend::dropout>;
  b.norm = &norm;
  b.bias_act = &channelwise<&Backend::bias_act>;
  b.bias_act_backward = &channelwise<&Backend::bias_act_backward>;
  b.batch_norm = &batch_norm<&Backend::batch_norm>;
  b.batch_norm_backward = &batch_norm<&Backend::batch_norm_backward>;
  b.cross_entropy = &cross_entropy;
  return b;
}

PyObject* backend(PyObject*, PyObject*) {
  static const Backend table = make_backend();
  return PyCapsule_New(const_cast<Backend*>(&table), "onepass.Backend", nullptr);
}

PyObject* set_order(PyObject*, PyObject* args) {
  const char* name = nullptr;
  unsigned long long seed = 0;
  int resident = 4;
  if (!PyArg_ParseTuple(args, "sKi", &name, &seed, &resident)) return nullptr;
  const std::string order = name;
  cusim::set_options({order == "forward"   ? cusim::Order::kForward
                      : order == "reverse" ? cusim::Order::kReverse
                                           : cusim::Order::kRandom,
                      seed, resident});
  Py_RETURN_NONE;
}

PyObject* path(PyObject*, PyObject* args) {
  long long outer, channels, inner_size;
  int unit;
  if (!PyArg_ParseTuple(args, "LLLi", &outer, &channels, &inner_size, &unit)) return nullptr;
  const auto p = onepass::cuda::batch_norm_path(outer, channels, inner_size, unit);
  return Py_BuildValue("{s:O,s:O,s:i,s:i,s:L,s:L}", "columns", p.columns ? Py_True : Py_False,
                       "whole", p.whole ? Py_True : Py_False, "width", int(p.width), "lanes",
                       int(p.lanes), "groups", static_cast<long long>(p.groups), "splits",
                       static_cast<long long>(p.splits));
}

PyMethodDef methods[] = {{"backend", backend, METH_NOARGS, nullptr},
                         {"set_order", set_order, METH_VARARGS, nullptr},
                         {"batch_norm_path", path, METH_VARARGS, nullptr},
                         {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT,
                      "onepass_cuda_sim",
                      nullptr,
                      -1,
                      methods,
                      nullptr,
                      nullptr,
                      nullptr,
                      nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_onepass_cuda_sim() { return PyModule_Create(&module); }
