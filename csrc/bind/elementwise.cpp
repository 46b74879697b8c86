// activation["relu"](x, out) and activation_backward["relu"](dy, x, out), … for every activation of
// the list; dropout and its mask.
#include <cstring>

#include "bind/fast.h"
#include "bind/kernel_info.h"
#include "bind/layout.h"
#include "bind/overlap.h"
#include "bind/result.h"
#include "bind/scalar.h"
#include "bind/staging.h"
#include "core/philox.h"
#include "core/schedule.h"
#include "kernels/activation_list.h"

namespace onepass::bind {
namespace {

constexpr DropoutStream kNoDropout{0, 0, 0};

// Runs a driver on one tensor. arrays[0] is written, the others are read.
template <class Choose>
void run(Array* arrays, int count, bool draws, const double* hyper, int64_t hyper_size,
         const DropoutStream& random, Choose driver) {
  const Target target = check_device(arrays, count);
  const Array& x = arrays[count - 1];
  check_floating(x);
  for (int i = count - 2; i >= 0; --i) {  // the result, which may be like a wrong dy, comes last
    check_dtype_like(arrays[i], x);
    check_shape_like(arrays[i], x);
  }
  check_writable(arrays[0]);
  for (int i = 1; i < count; ++i) check_overlap(arrays[0], arrays[i], true);
  if (x.size() == 0) return;

  Staging staging;
  for (int i = 0; i < count; ++i) staging.load_misaligned(&arrays[i], i == 0);
  Layout layout;
  arrange(&layout, arrays, count, draws);
  Tensor tensor;
  tensor.size = layout.size;
  tensor.shape = layout.shape;
  tensor.ndim = layout.ndim;
  tensor.computing = computing_type(x.dtype());
  tensor.operands = layout.operands;
  const Piece piece{0, 0, layout.size};
  const int64_t group[] = {0, 1};
  Elementwise call;
  call.tensors = &tensor;
  call.count = 1;
  call.schedule.pieces = &piece;
  call.schedule.groups = group;
  call.schedule.group_count = 1;
  call.schedule.elements = layout.size;
  call.hyper = hyper;
  call.hyper_rows = 1;
  call.hyper_size = hyper_size;
  call.random = random;
  ScheduleStorage schedule;
  if (layout.size > kGroupElements && !target.on_device()) {
    schedule.build(&tensor, 1);
    call.schedule = schedule.view();
  }
  bind::run(target, driver(*target.backend), &call, layout.size);
  staging.store();
}

py::object finished(const Array& out) {
  mark_written(out);
  return py::reinterpret_borrow<py::object>(out.object);
}

// relu(x, out, *options) and relu_backward(dy, x, out, *options).
template <template <class> class A, int kIndex, bool kBackward>
py::object activation(Arguments given) {
  static const std::string name = std::string(A<float>::name) + (kBackward ? "_backward" : "");
  const char* op = name.c_str();
  constexpr int kArrays = kBackward ? 3 : 2;
  constexpr int kOptions = int(decltype(A<float>::hyper)::size);
  given.expect(op, kArrays + kOptions);
  Array arrays[kArrays];
  open(&arrays[kArrays - 1], op, "x", given[kArrays - 2]);
  if constexpr (kBackward) open(&arrays[1], op, "dy", given[0]);
  check_one_device(arrays + 1, kArrays - 1);
  open_result(&arrays[0], op, "out", given[kArrays - 1], arrays[1]);
  double options[kOptions + 1];
  for (int i = 0; i < kOptions; ++i)
    options[i] = real(op, A<float>::hyper[size_t(i)], given[kArrays + i]);
  run(arrays, kArrays, false, options, kOptions, kNoDropout, [](const Backend& b) {
    return kBackward ? b.activation_backward[kIndex] : b.activation[kIndex];
  });
  return finished(arrays[0]);
}

std::string option_names(const KernelInfo& info) {
  std::string text;
  for (const char* option : info.hyper) text += ", " + std::string(option);
  return text + ")";
}

// Two dictionaries by name: a new activation adds no attribute here and no line to the stub.
template <template <class> class... A, size_t... I>
void define_activations(py::module_& m, host::List<A...>, std::index_sequence<I...>) {
  py::dict forward, backward;
  ((forward[A<float>::name] =
        make_function(m, A<float>::name + ("(x, out" + option_names(activations()[I])),
                      &fast<&activation<A, int(I), false>>)),
   ...);
  ((backward[A<float>::name] =
        make_function(m, A<float>::name + ("_backward(dy, x, out" + option_names(activations()[I])),
                      &fast<&activation<A, int(I), true>>)),
   ...);
  m.attr("activation") = forward;
  m.attr("activation_backward") = backward;
}
template <template <class> class... A>
void define_activations(py::module_& m, host::List<A...> list) {
  define_activations(m, list, std::index_sequence_for<A<float>...>{});
}

py::object dropout(Arguments given) {
  constexpr const char* kOp = "dropout";
  given.expect(kOp, 5);
  Array arrays[2];
  open(&arrays[1], kOp, "x", given[0]);
  check_one_device(arrays + 1, 1);
  open_result(&arrays[0], kOp, "out", given[1], arrays[1]);
  const DropoutStream random = random_stream(kOp, "p", given[2], given[3], given[4]);
  run(arrays, 2, true, nullptr, 0, random, [](const Backend& b) { return b.dropout; });
  return finished(arrays[0]);
}

// ---- the mask itself

py::object dropout_mask(Arguments given) {
  constexpr const char* kOp = "dropout_mask";
  given.expect(kOp, 6);
  Array out;
  open(&out, kOp, "out", given[0]);
  const int64_t elements = signed_64(kOp, "count", given[1]);
  const DropoutStream random = random_stream(kOp, "p", given[2], given[3], given[4]);
  const bool packed = boolean(kOp, "packed", given[5]);
  const Target target = check_device(&out, 1);
  if (target.on_device())
    type_error(kOp, out.label() +
                        " lies on a CUDA device, but the mask is drawn on the CPU; pass a "
                        "NumPy array");
  if (out.element != (packed ? Element::u8 : Element::boolean))
    type_error(kOp, out.label() + " has dtype " + dtype_text(out) + ", expected " +
                        (packed ? "uint8 for a packed mask" : "bool"));
  check_writable(out);
  check_dense(out);
  const int64_t room = packed ? elements / 8 + (elements % 8 != 0) : elements;
  if (elements < 0 || out.size() != room)
    value_error(kOp, out.label() + " has " + std::to_string(out.size()) + " entries, expected " +
                         std::to_string(room) + " for a mask of " + std::to_string(elements) +
                         " elements");
  {
    const ReleaseGil released(elements);
    DropoutMask call;
    call.out = static_cast<uint8_t*>(out.data);
    call.elements = elements;
    call.random = random;
    call.packed = packed;
    target.backend->dropout_mask(call);
  }
  mark_written(out);
  return py::none();
}

}  // namespace

void define_elementwise(py::module_& m) {
  define_activations(m, host::Activations{});
  define(m, "dropout(x, out, p, seed, offset)", &fast<&dropout>);
  define(m, "dropout_mask(out, count, p, seed, offset, packed)", &fast<&dropout_mask>);
}

}  // namespace onepass::bind
