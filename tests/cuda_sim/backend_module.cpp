// Python module onepass_cuda_sim: the CUDA backend running in the simulator.
//
//   backend()                     a capsule for onepass._C.set_test_backend, for NumPy: plays
//                                 the part of the framework that owns the device: gives every call
//                                 the workspace it asks for, filled with 0xff, and turns what the
//                                 backend reports into an exception
//   device_backend()              a capsule for onepass._C.set_test_cuda_backend: for arrays that
//                                 say they lie on a device, of which there are two
//   device_calls()                (device, stream) of every call of its functions since last asked
//   device_fails(text)            its next call does nothing and leaves this error
//   current_device(device)        makes a device the current one, and returns which one was
//   contexts()                    the devices that have one, and whether this thread has a current
//                                 one
//
//   forget_contexts()             as in a process that has used no device yet
//   set_order(name, seed, resident_blocks)
//   start_recording()             launches are kept, as a CUDA graph that is captured keeps them …
//   stop_recording()              … until here: the number of the graph
//   replay(graph)                 runs its launches
//   counts(), reset_counts()      launches, bytes read and written, and calls of Philox since then
//   set_shared_limit(bytes)       of shared memory that a block may have, until set_order
//   set_clusters(has)             whether the device has clusters, until set_order
//   set_cluster_blocks(count)     how many blocks of clusters run at once, until set_order
//   channel_path(outer, channels, inner, unit, size, arrays, limit, eight, backward)
//   row_norm_path(outer, groups, channels, inner, unit, is_double, backward)
#include <Python.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/backend.h"
#include "cuda/channel_path.h"
#include "cuda/row_norm_path.h"
#include "cusim.h"
#include "kernels/tables.h"

extern "C" const onepass::Backend* onepass_cuda_backend();

namespace {

using namespace onepass;
using namespace onepass::host;

const Backend& inner() { return *onepass_cuda_backend(); }

void check(bool poisoned_end) {
  const char* error = inner().last_error();
  if (error) throw std::runtime_error(error);
  if (poisoned_end) throw std::runtime_error("a kernel wrote behind its workspace");
}

// The framework of NumPy arrays.
struct Framework {
  template <class Call>
  static void run(void (*function)(const Call&), int64_t bytes, Call call) {
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
};

// The framework is on the other side of the border: calls are noted, and fail when told to.
struct Device {
  struct Launch {
    int device;
    void* stream;
  };
  static inline std::vector<Launch> launches;
  static inline std::string fault, reported;

  template <class Call>
  static void run(void (*function)(const Call&), int64_t, const Call& call) {
    const int device = inner().current_device();
    launches.push_back({device, call.stream});
    if (fault.empty()) return function(call);
    reported = fault;
    fault.clear();
  }
  static const char* last_error() {
    static std::string text;
    text = reported;
    reported.clear();
    return text.empty() ? inner().last_error() : text.c_str();
  }
};

template <class Side, auto kMember>
void elementwise(const Elementwise& call) {
  Side::run(inner().*kMember, inner().elementwise_workspace(call), call);
}
template <class Side, auto kMember, int kIndex>
void elementwise_at(const Elementwise& call) {
  Side::run((inner().*kMember)[kIndex], inner().elementwise_workspace(call), call);
}
template <class Side>
void dropout_mask(const DropoutMask& call) {
  Side::run(inner().dropout_mask, 0, call);
}
void host_bytes(const HostBytes& call) { Device::run(inner().write, 0, call); }
void take_number(const TakeNumber& call) { Device::run(inner().take_number, 0, call); }
template <class Side>
void global_norm(const GlobalNorm& call) {
  Side::run(inner().global_norm, inner().global_norm_workspace(call), call);
}
template <class Side, auto kMember>
void channelwise(const Channelwise& call) {
  Side::run(inner().*kMember, inner().channelwise_workspace(call), call);
}
template <class Side, auto kMember, int kIndex>
void channel_norm_at(const ChannelNorm& call) {
  Side::run((inner().*kMember)[kIndex], inner().channelwise_workspace(call), call);
}
template <class Side, auto kMember, int kIndex>
void row_norm_at(const RowNorm& call) {
  Side::run((inner().*kMember)[kIndex], inner().row_norm_workspace(call), call);
}
template <class Side, auto kMember>
void row_loss(const CrossEntropy& call) {
  Side::run(inner().*kMember, inner().cross_entropy_workspace(call), call);
}

template <class Side, int kIndex>
void pointwise_loss_at(const PointwiseLoss& call) {
  Side::run(inner().pointwise_loss[kIndex], inner().pointwise_loss_workspace(call), call);
}

template <class Side, auto kMember>
void windows(const Windows& call) {
  Side::run(inner().*kMember, inner().depthwise_workspace(call), call);
}
template <class Side, auto kMember>
void row_call(const AlongClasses& call) {
  Side::run(inner().*kMember, 0, call);
}

template <class Side, int kRule, int kVariant>
void update_at(const Elementwise& call) {
  Side::run(inner().update[kRule][kVariant], inner().elementwise_workspace(call), call);
}
template <class Side, int kRule, size_t... V>
const Run<Elementwise>* variants_of(std::index_sequence<V...>) {
  static constexpr Run<Elementwise> kVariant[] = {&update_at<Side, kRule, int(V)>...};
  return kVariant;
}

template <class Side, int kRule, int kVariant>
void measure_at(const Elementwise& call) {
  Side::run(inner().measure[kRule][kVariant], inner().measure_workspace(call), call);
}
template <class Side, int kRule, size_t... V>
const Run<Elementwise>* measures_of(std::index_sequence<V...>) {
  static constexpr Run<Elementwise> kVariant[] = {&measure_at<Side, kRule, int(V)>...};
  return inner().measure[kRule] ? kVariant : nullptr;
}
template <class Side, int kRule, int kVariant>
void factor_at(const Elementwise& call) {
  Side::run(inner().factor[kRule][kVariant], inner().factor_workspace(call), call);
}
template <class Side, int kRule, size_t... V>
const Run<Elementwise>* factors_of(std::index_sequence<V...>) {
  static constexpr Run<Elementwise> kVariant[] = {&factor_at<Side, kRule, int(V)>...};
  return inner().factor[kRule] ? kVariant : nullptr;
}
template <class Side, auto kMember>
void watch(const Elementwise& call) {
  Side::run(inner().*kMember, inner().measure_workspace(call), call);
}

template <class Side, int... I, template <class> class... A>
void fill(Tables* t, std::integer_sequence<int, I...>, List<A...>) {
  ((t->activation[I] = &elementwise_at<Side, &Backend::activation, I>,
    t->activation_backward[I] = &elementwise_at<Side, &Backend::activation_backward, I>,
    t->activation_backward_y[I] = &elementwise_at<Side, &Backend::activation_backward_y, I>),
   ...);
}
template <class Side, int... I, class... R>
void fill(Tables* t, std::integer_sequence<int, I...>, Rules<R...>) {
  ((t->update[I] = variants_of<Side, I>(std::make_index_sequence<kVariants<R>>{}),
    t->measure[I] = measures_of<Side, I>(std::make_index_sequence<kVariants<R>>{}),
    t->factor[I] = factors_of<Side, I>(std::make_index_sequence<kVariants<R>>{})),
   ...);
}
template <class Side, int... I>
void fill_norms(Tables* t, std::integer_sequence<int, I...>) {
  ((t->channel_norm[I] = &channel_norm_at<Side, &Backend::channel_norm, I>,
    t->channel_norm_backward[I] = &channel_norm_at<Side, &Backend::channel_norm_backward, I>),
   ...);
}
template <class Side, int... I>
void fill_row_norms(Tables* t, std::integer_sequence<int, I...>) {
  ((t->row_norm[I] = &row_norm_at<Side, &Backend::row_norm, I>,
    t->row_norm_backward[I] = &row_norm_at<Side, &Backend::row_norm_backward, I>),
   ...);
}
template <class Side, int... I>
void fill_losses(Tables* t, std::integer_sequence<int, I...>) {
  ((t->pointwise_loss[I] = &pointwise_loss_at<Side, I>), ...);
}
template <class L>
using Positions = std::make_integer_sequence<int, count_of(L{})>;

template <class Side>
Backend make_backend() {
  Backend b = inner();
  b.name = "cuda_sim";
  static Tables tables;
  tables.lend(&b);
  fill<Side>(&tables, Positions<Activations>{}, Activations{});
  fill<Side>(&tables, Positions<Updates>{}, Updates{});
  fill_norms<Side>(&tables, Positions<ChannelNorms>{});
  fill_row_norms<Side>(&tables, Positions<RowNorms>{});
  fill_losses<Side>(&tables, Positions<Losses>{});
  b.watch_before = &watch<Side, &Backend::watch_before>;
  b.watch_after = &watch<Side, &Backend::watch_after>;
  b.dropout = &elementwise<Side, &Backend::dropout>;
  b.alpha_dropout = &elementwise<Side, &Backend::alpha_dropout>;
  b.alpha_dropout_backward = &elementwise<Side, &Backend::alpha_dropout_backward>;
  b.dropout_mask = &dropout_mask<Side>;
  b.limit_rows = &elementwise<Side, &Backend::limit_rows>;
  b.global_norm = &global_norm<Side>;
  b.bias_act = &channelwise<Side, &Backend::bias_act>;
  b.bias_act_backward = &channelwise<Side, &Backend::bias_act_backward>;
  b.cross_entropy = &row_loss<Side, &Backend::cross_entropy>;
  b.nll_loss = &row_loss<Side, &Backend::nll_loss>;
  b.wasserstein_1d = &row_loss<Side, &Backend::wasserstein_1d>;
  b.softmax = &row_call<Side, &Backend::softmax>;
  b.softmax_backward = &row_call<Side, &Backend::softmax_backward>;
  b.maxout = &row_call<Side, &Backend::maxout>;
  b.maxout_backward = &row_call<Side, &Backend::maxout_backward>;
  b.im2col = &windows<Side, &Backend::im2col>;
  b.col2im = &windows<Side, &Backend::col2im>;
  b.max_pool2d = &windows<Side, &Backend::max_pool2d>;
  b.max_pool2d_backward = &windows<Side, &Backend::max_pool2d_backward>;
  b.avg_pool2d = &windows<Side, &Backend::avg_pool2d>;
  b.avg_pool2d_backward = &windows<Side, &Backend::avg_pool2d_backward>;
  b.adaptive_avg_pool2d = &windows<Side, &Backend::adaptive_avg_pool2d>;
  b.adaptive_avg_pool2d_backward = &windows<Side, &Backend::adaptive_avg_pool2d_backward>;
  b.depthwise_conv2d = &windows<Side, &Backend::depthwise_conv2d>;
  b.depthwise_conv2d_backward = &windows<Side, &Backend::depthwise_conv2d_backward>;
  b.depthwise_conv2d_weight_backward = &windows<Side, &Backend::depthwise_conv2d_weight_backward>;
  b.glu = &elementwise<Side, &Backend::glu>;
  b.glu_backward = &elementwise<Side, &Backend::glu_backward>;
  return b;
}

PyObject* capsule(const Backend& table) {
  return PyCapsule_New(const_cast<Backend*>(&table), "onepass.Backend", nullptr);
}

PyObject* backend(PyObject*, PyObject*) {
  static const Backend table = make_backend<Framework>();
  return capsule(table);
}

PyObject* device_backend(PyObject*, PyObject*) {
  static Backend table = make_backend<Device>();
  table.last_error = &Device::last_error;
  table.write = &host_bytes;
  table.take_number = &take_number;
  return capsule(table);
}

PyObject* device_calls(PyObject*, PyObject*) {
  PyObject* all = PyList_New(0);
  for (const Device::Launch& l : Device::launches) {
    PyObject* entry =
        Py_BuildValue("iK", l.device, static_cast<unsigned long long>(uintptr_t(l.stream)));
    PyList_Append(all, entry);
    Py_XDECREF(entry);
  }
  Device::launches.clear();
  return all;
}

PyObject* device_fails(PyObject*, PyObject* text) {
  Device::fault = PyUnicode_AsUTF8(text);
  Py_RETURN_NONE;
}

PyObject* current_device(PyObject*, PyObject* device) {
  const int before = cusim::current_device();
  cusim::set_device(int(PyLong_AsLong(device)));
  return PyLong_FromLong(before);
}

PyObject* contexts(PyObject*, PyObject*) {
  PyObject* all = PyList_New(0);
  for (int device = 0; device < cusim::kDevices; ++device)
    if (cusim::has_context(device)) {
      PyObject* const number = PyLong_FromLong(device);
      PyList_Append(all, number);
      Py_XDECREF(number);
    }
  return Py_BuildValue("NO", all, cusim::none_is_current() ? Py_True : Py_False);
}
PyObject* forget_contexts(PyObject*, PyObject*) {
  cusim::forget_contexts();
  Py_RETURN_NONE;
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

std::vector<cusim::Recording> graphs;
PyObject* start_recording(PyObject*, PyObject*) {
  cusim::start_recording();
  Py_RETURN_NONE;
}
PyObject* stop_recording(PyObject*, PyObject*) {
  graphs.push_back(cusim::stop_recording());
  return PyLong_FromSize_t(graphs.size() - 1);
}
PyObject* replay(PyObject*, PyObject* number) {
  const size_t graph = PyLong_AsSize_t(number);
  if (PyErr_Occurred()) return nullptr;
  for (const auto& launch : graphs.at(graph)) {
    const cudaError_t error = launch();
    if (error == cudaSuccess) continue;
    PyErr_SetString(PyExc_RuntimeError, cusim::error_string(error));
    return nullptr;
  }
  Py_RETURN_NONE;
}

PyObject* counts(PyObject*, PyObject*) {
  const auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  const cusim::Counts& c = cusim::counts;
  return Py_BuildValue("{s:K,s:K,s:K,s:K}", "launches", number(c.launches), "read", number(c.read),
                       "written", number(c.written), "philox", number(c.draws));
}
PyObject* reset_counts(PyObject*, PyObject*) {
  cusim::counts = {};
  Py_RETURN_NONE;
}

// Sets one of the simulator's options.
template <class T>
PyObject* set_option(T cusim::Options::* option, T value) {
  cusim::Options options = cusim::options();
  options.*option = value;
  cusim::set_options(options);
  Py_RETURN_NONE;
}
PyObject* set_shared_limit(PyObject*, PyObject* bytes) {
  return set_option(&cusim::Options::most_shared_bytes, int(PyLong_AsLong(bytes)));
}
PyObject* set_clusters(PyObject*, PyObject* has) {
  return set_option(&cusim::Options::clusters, has == Py_True);
}
PyObject* set_cluster_blocks(PyObject*, PyObject* count) {
  return set_option(&cusim::Options::cluster_blocks, unsigned(PyLong_AsUnsignedLong(count)));
}

PyObject* path(PyObject*, PyObject* args) {
  long long outer, channels, inner_size, limit = 0;
  int unit, size = 4, arrays = 0, eight = 0, backward = 0;
  if (!PyArg_ParseTuple(args, "LLLi|iiLpp", &outer, &channels, &inner_size, &unit, &size, &arrays,
                        &limit, &eight, &backward))
    return nullptr;
  const auto p = onepass::cuda::channel_path(outer, channels, inner_size, unit, eight != 0,
                                             backward != 0, {arrays, size});
  const int kept =
      arrays == 0 ? 0
                  : onepass::cuda::kept_units(p, outer, inner_size, p.width * size * arrays, limit);
  return Py_BuildValue("{s:i,s:i,s:O,s:O,s:i,s:i,s:L,s:L}", "kept", kept, "cluster", int(p.cluster),
                       "columns", p.columns ? Py_True : Py_False, "whole",
                       p.whole ? Py_True : Py_False, "width", int(p.width), "lanes", int(p.lanes),
                       "groups", static_cast<long long>(p.groups), "splits",
                       static_cast<long long>(p.splits));
}

PyObject* row_path(PyObject*, PyObject* args) {
  long long outer, groups, channels, inner_size;
  int unit, is_double, backward;
  if (!PyArg_ParseTuple(args, "LLLLipp", &outer, &groups, &channels, &inner_size, &unit, &is_double,
                        &backward))
    return nullptr;
  const auto p = onepass::cuda::row_norm_path(outer, groups, channels, inner_size, unit, unit,
                                              is_double != 0, backward != 0);
  const char* kind = p.held ? "held" : p.by_warps ? "warps" : p.whole ? "whole" : "split";
  const auto number = [](int64_t n) { return static_cast<long long>(n); };
  return Py_BuildValue("{s:s,s:i,s:i,s:i,s:L,s:L,s:L,s:L}", "kind", kind, "width", int(p.width),
                       "kept", int(p.kept), "lanes", int(p.lanes), "pieces", number(p.pieces),
                       "splits", number(p.splits), "apply_splits", number(p.apply_splits), "parts",
                       number(p.parts));
}

PyMethodDef methods[] = {{"backend", backend, METH_NOARGS, nullptr},
                         {"device_backend", device_backend, METH_NOARGS, nullptr},
                         {"device_calls", device_calls, METH_NOARGS, nullptr},
                         {"device_fails", device_fails, METH_O, nullptr},
                         {"current_device", current_device, METH_O, nullptr},
                         {"contexts", contexts, METH_NOARGS, nullptr},
                         {"forget_contexts", forget_contexts, METH_NOARGS, nullptr},
                         {"set_order", set_order, METH_VARARGS, nullptr},
                         {"start_recording", start_recording, METH_NOARGS, nullptr},
                         {"stop_recording", stop_recording, METH_NOARGS, nullptr},
                         {"replay", replay, METH_O, nullptr},
                         {"counts", counts, METH_NOARGS, nullptr},
                         {"reset_counts", reset_counts, METH_NOARGS, nullptr},
                         {"set_shared_limit", set_shared_limit, METH_O, nullptr},
                         {"set_clusters", set_clusters, METH_O, nullptr},
                         {"set_cluster_blocks", set_cluster_blocks, METH_O, nullptr},
                         {"channel_path", path, METH_VARARGS, nullptr},
                         {"row_norm_path", row_path, METH_VARARGS, nullptr},
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
