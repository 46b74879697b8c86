// activation["relu"](x, out) and activation_backward["relu"](dy, x, out), … for every activation of
// the list; dropout and its mask.
#include "bind/elementwise.h"

#include "bind/kernel_info.h"

namespace onepass::bind {
namespace {

// ---- activations: the arrays of a pass, then the options of the formula

constexpr Argument kForwardArrays[] = {
    {"x", reference, read | aliased | strided},
    {"out", like_reference, write | strided},
};
constexpr Argument kBackwardArrays[] = {
    {"dy", like_reference, read | aliased | strided | pattern},
    {"x", reference, read | aliased | strided},
    {"out", like_reference, write | strided},
};
constexpr Argument kBackwardYArrays[] = {
    {"dy", like_reference, read | aliased | strided | pattern},
    {"y", reference, read | aliased | strided},
    {"out", like_reference, write | strided},
};
constexpr Contract kForward = contract("activation", kForwardArrays);
constexpr Contract kBackward = contract("activation_backward", kBackwardArrays);
constexpr Contract kBackwardY = contract("activation_backward_y", kBackwardYArrays);

// A pass of one activation.
struct Activation {
  std::string op;
  std::vector<Argument> arguments;
  Contract contract;
  int32_t index;

  Activation(const KernelInfo& info, const char* suffix, const Contract& arrays)
      : op(std::string(info.name) + suffix),
        arguments(arrays.arguments, arrays.arguments + arrays.count),
        contract(arrays),
        index(info.index) {
    for (const char* option : info.hyper) arguments.push_back(real(option));
    contract.op = op.c_str();
    contract.arguments = arguments.data();
    contract.count += int(info.hyper.size());
    contract.given += int(info.hyper.size());
  }
};

template <const Contract& kArrays, auto kTable>
py::object activation(Arguments given, const Activation& a) {
  constexpr int kOut = kArrays.position("out");
  static_assert(kOut == kArrays.count - 1, "the inputs come first");
  BorderOf<kArrays> b(given, a.contract);
  const int option_count = a.contract.count - kArrays.count;
  double options[Contract::kMostArguments];
  for (int i = 0; i < option_count; ++i) options[i] = b.real(kArrays.count + i);
  const Array* arrays[kArrays.count] = {&b[kOut]};
  for (int i = 0; i < kOut; ++i) arrays[i + 1] = &b[i];
  run_tensor(b.check(), arrays, false, options, option_count, kNoDropout,
             [&](const Backend& backend) { return (backend.*kTable)[a.index]; });
  b.finish();
  return b.result(kOut);
}

// A dictionary by name: a new activation adds no attribute here and no line to the stub.
template <const Contract& kArrays, auto kTable>
py::dict activation_functions(const py::module_& m, const std::vector<KernelInfo>& all,
                              const char* suffix) {
  py::dict functions;
  for (const KernelInfo& info : all) {
    const Activation& a = *new Activation(info, suffix, kArrays);  // as long as the process lives
    functions[info.name] =
        make_function(m, a.contract, &fast_with<&activation<kArrays, kTable>, Activation>, &a);
  }
  return functions;
}

// ---- dropout

constexpr Argument kDropoutTable[] = {
    {"x", reference, read | aliased | strided},
    {"out", like_reference, write | strided},
    number("p", 0, 1),
    word("seed"),
    word("offset"),
    word("first"),
};
constexpr Contract kDropout = contract("dropout", kDropoutTable);
constexpr Contract kFeatureDropout = contract("feature_dropout", kDropoutTable);
constexpr Contract kAlphaDropout = contract("alpha_dropout", kDropoutTable);
constexpr Contract kAlphaDropoutBackward = contract("alpha_dropout_backward", kDropoutTable);
constexpr Contract kFeatureAlphaDropout = contract("feature_alpha_dropout", kDropoutTable);
constexpr Contract kFeatureAlphaDropoutBackward =
    contract("feature_alpha_dropout_backward", kDropoutTable);

// Elements of a map of x, whose axes are samples, channels, and those of a map.
int64_t map_size(const char* op, const Array& x) {
  if (x.ndim < 2)
    value_error(op, x.label() + " has shape " + shape_text(x) +
                        ", expected two axes or more: samples, channels, and those of a map");
  int64_t size = 1;
  for (int d = 2; d < x.ndim; ++d) size *= x.shape[d];
  return size;
}

template <const Contract& kContract, auto kDriver, bool kWholeMaps>
py::object dropout(Arguments given) {
  constexpr int kX = kContract.position("x"), kOut = kContract.position("out");
  constexpr int kP = kContract.position("p"), kSeed = kContract.position("seed");
  constexpr int kOffset = kContract.position("offset"), kFirst = kContract.position("first");
  BorderOf<kContract> b(given);
  const int64_t repeat = kWholeMaps ? map_size(b.op(), b[kX]) : 1;
  // Of whole maps `first` is a sample, which has a bit for each of its channels.
  const int64_t bits = kWholeMaps ? b[kX].shape[1] : 1;
  const DropoutStream random = b.dropout(kP, kSeed, kOffset, kFirst, bits);
  const Array* const arrays[] = {&b[kOut], &b[kX]};
  run_tensor(
      b.check(), arrays, true, nullptr, 0, random,
      [](const Backend& backend) { return backend.*kDriver; }, repeat);
  b.finish();
  return b.result(kOut);
}

// ---- the mask itself

constexpr Argument kMaskTable[] = {
    {"out", bit_mask, update | optional | bind::packed},
    extents("shape"),
    number("p", 0, 1),
    word("seed"),
    word("offset"),
    word("first"),
    flag("packed"),
};
constexpr Contract kMask = contract("dropout_mask", kMaskTable);

struct MaskShape {
  int64_t at[kMaxAxes];
  int ndim;
  int64_t elements;
};
MaskShape mask_shape(const Border& b, int i) {
  const char* const name = "shape";
  const Items items(b.op(), name, b.given(i));
  if (items.count() > kMaxAxes)
    value_error(b.op(),
                is(name, b.given(i)) + ", expected at most " + std::to_string(kMaxAxes) + " axes");
  MaskShape shape{{}, int(items.count()), 1};
  bool empty = false, fits = true;
  for (int d = 0; d < shape.ndim; ++d) {
    shape.at[d] = PyNumber_AsSsize_t(items[d], nullptr);  // the nearest that there is
    if (PyErr_Occurred()) {
      PyErr_Clear();
      type_error(b.op(), is(name, b.given(i)) + ", expected an integer or a sequence of integers");
    }
    if (shape.at[d] < 0) value_error(b.op(), is(name, b.given(i)) + ", expected extents >= 0");
    empty = empty || shape.at[d] == 0;
    fits = !__builtin_mul_overflow(shape.elements, shape.at[d], &shape.elements) && fits;
    fits = fits && shape.at[d] < PY_SSIZE_T_MAX;
  }
  if (!empty && !fits)
    value_error(b.op(), is(name, b.given(i)) + ", expected fewer than 2**63 elements");
  if (empty) shape.elements = 0;
  return shape;
}

py::object dropout_mask(Arguments given) {
  constexpr int kOut = kMask.position("out"), kShape = kMask.position("shape");
  constexpr int kP = kMask.position("p"), kSeed = kMask.position("seed");
  constexpr int kOffset = kMask.position("offset"), kFirst = kMask.position("first");
  constexpr int kPacked = kMask.position("packed");
  BorderOf<kMask> b(given);
  MaskShape shape = mask_shape(b, kShape);
  DropoutMask call;
  call.elements = shape.elements;
  call.random = b.dropout(kP, kSeed, kOffset, kFirst);
  call.packed = b.boolean(kPacked);
  if (call.packed) {
    shape.at[0] = call.elements / 8 + (call.elements % 8 != 0);
    shape.ndim = 1;
  }
  const Element element = call.packed ? Element::u8 : Element::boolean;
  Array& out = b[kOut];
  if (!out) make_bytes(&out, b.op(), "out", shape.at, shape.ndim, element);
  if (out.element != element)
    type_error(b.op(), out.label() + " has dtype " + dtype_text(out) + ", expected " +
                           (call.packed ? "uint8 for a packed mask" : "bool"));
  check_shape(out, shape.at, shape.ndim,
              call.packed ? ": a byte for eight elements of 'shape'" : ": that of 'shape'");
  const Target target = b.check();
  call.out = static_cast<uint8_t*>(out.data);
  bind::run(target, target.backend->dropout_mask, &call, call.elements);
  b.finish();
  return b.result(kOut);
}

// ---- a number for each call

void take_number(const py::object& count, const py::object& taken) {
  constexpr const char* kOp = "take_number";
  Array arrays[2];
  open(&arrays[0], kOp, "count", count.ptr());
  open(&arrays[1], kOp, "taken", taken.ptr());
  const Target target = check_device(arrays, 2);
  for (const Array& a : arrays)
    if (!target.on_device() || a.size() != 1 ||
        (a.element != Element::i64 && a.element != Element::u64))
      type_error(kOp, a.label() + " is not one number of int64 or uint64 on a CUDA device");
  TakeNumber call{static_cast<uint64_t*>(arrays[0].data), static_cast<uint64_t*>(arrays[1].data),
                  target.stream};
  const Launches launches(target);
  launches.run(target.backend->take_number, call, 1);
  launches.finish();
}

}  // namespace

void define_elementwise(py::module_& m) {
  m.def("take_number", &take_number, py::arg("count"), py::arg("taken"), py::pos_only());
  m.attr("activation") = activation_functions<kForward, &Backend::activation>(m, activations(), "");
  m.attr("activation_backward") = activation_functions<kBackward, &Backend::activation_backward>(
      m, activation_backwards(), "_backward");
  m.attr("activation_backward_y") =
      activation_functions<kBackwardY, &Backend::activation_backward_y>(m, activation_backward_ys(),
                                                                        "_backward_y");
  define(m, kDropout, &fast<&dropout<kDropout, &Backend::dropout, false>>);
  define(m, kFeatureDropout, &fast<&dropout<kFeatureDropout, &Backend::dropout, true>>);
  define(m, kAlphaDropout, &fast<&dropout<kAlphaDropout, &Backend::alpha_dropout, false>>);
  define(m, kAlphaDropoutBackward,
         &fast<&dropout<kAlphaDropoutBackward, &Backend::alpha_dropout_backward, false>>);
  define(m, kFeatureAlphaDropout,
         &fast<&dropout<kFeatureAlphaDropout, &Backend::alpha_dropout, true>>);
  define(m, kFeatureAlphaDropoutBackward,
         &fast<&dropout<kFeatureAlphaDropoutBackward, &Backend::alpha_dropout_backward, true>>);
  define(m, kMask, &fast<&dropout_mask>);
}

}  // namespace onepass::bind
