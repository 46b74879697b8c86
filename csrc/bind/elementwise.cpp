// activation["relu"](x, out) and activation_backward["relu"](dy, x, out), … for every activation of
// the list; dropout and its mask.
#include <cstring>

#include "bind/border.h"
#include "bind/kernel_info.h"
#include "bind/layout.h"
#include "core/philox.h"
#include "core/schedule.h"

namespace onepass::bind {
namespace {

constexpr DropoutStream kNoDropout{0, 0, 0};

// Runs a driver on one tensor, whose operands are in the order of `arrays`. The first is written.
template <int kCount, class Choose>
void run(const Target& target, const Array* const (&arrays)[kCount], bool draws,
         const double* hyper, int64_t hyper_size, const DropoutStream& random, Choose driver) {
  if (arrays[0]->size() == 0) return;
  LayoutOf<kCount> layout;
  arrange(&layout, arrays, kCount, draws);
  Tensor tensor;
  tensor.size = layout.size;
  tensor.shape = layout.shape;
  tensor.ndim = layout.ndim;
  tensor.computing = computing_type(arrays[0]->dtype());
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
}

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
constexpr Contract kForward = contract("activation", kForwardArrays);
constexpr Contract kBackward = contract("activation_backward", kBackwardArrays);

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
  run(b.check(), arrays, false, options, option_count, kNoDropout,
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
};
constexpr Contract kDropout = contract("dropout", kDropoutTable);

py::object dropout(Arguments given) {
  constexpr int kX = kDropout.position("x"), kOut = kDropout.position("out");
  constexpr int kP = kDropout.position("p"), kSeed = kDropout.position("seed");
  constexpr int kOffset = kDropout.position("offset");
  BorderOf<kDropout> b(given);
  const DropoutStream random = b.dropout(kP, kSeed, kOffset);
  const Array* const arrays[] = {&b[kOut], &b[kX]};
  run(b.check(), arrays, true, nullptr, 0, random,
      [](const Backend& backend) { return backend.dropout; });
  b.finish();
  return b.result(kOut);
}

// ---- the mask itself

constexpr Argument kMaskTable[] = {
    {"out", bit_mask, update | bind::packed},
    integer("count"),
    number("p", 0, 1),
    word("seed"),
    word("offset"),
    flag("packed"),
};
constexpr Contract kMask = contract("dropout_mask", kMaskTable);

py::object dropout_mask(Arguments given) {
  constexpr int kOut = kMask.position("out"), kElements = kMask.position("count");
  constexpr int kP = kMask.position("p"), kSeed = kMask.position("seed");
  constexpr int kOffset = kMask.position("offset"), kPacked = kMask.position("packed");
  BorderOf<kMask> b(given);
  const Array& out = b[kOut];
  DropoutMask call;
  call.elements = b.integer(kElements);
  call.random = b.dropout(kP, kSeed, kOffset);
  call.packed = b.boolean(kPacked);
  if (out.cuda_device >= 0)
    type_error(b.op(), out.label() +
                           " lies on a CUDA device, but the mask is drawn on the CPU; pass a "
                           "NumPy array");
  if (out.element != (call.packed ? Element::u8 : Element::boolean))
    type_error(b.op(), out.label() + " has dtype " + dtype_text(out) + ", expected " +
                           (call.packed ? "uint8 for a packed mask" : "bool"));
  const int64_t bytes = call.packed ? call.elements / 8 + (call.elements % 8 != 0) : call.elements;
  if (call.elements < 0 || out.size() != bytes)
    value_error(b.op(), out.label() + " has " + std::to_string(out.size()) + " entries, expected " +
                            std::to_string(bytes) + " for a mask of " +
                            std::to_string(call.elements) + " elements");
  const Target target = b.check();
  call.out = static_cast<uint8_t*>(out.data);
  {
    const ReleaseGil released(call.elements);
    target.backend->dropout_mask(call);
  }
  b.finish();
  return py::none();
}

}  // namespace

void define_elementwise(py::module_& m) {
  m.attr("activation") = activation_functions<kForward, &Backend::activation>(m, activations(), "");
  m.attr("activation_backward") = activation_functions<kBackward, &Backend::activation_backward>(
      m, activation_backwards(), "_backward");
  define(m, kDropout, &fast<&dropout>);
  define(m, kMask, &fast<&dropout_mask>);
}

}  // namespace onepass::bind
