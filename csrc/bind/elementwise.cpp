// activation["relu"](x, out) and activation_backward["relu"](dy, x, out), … for every activation of
// the list; dropout and its mask.
#include <cstring>

#include "bind/border.h"
#include "bind/layout.h"
#include "core/philox.h"
#include "core/schedule.h"
#include "kernels/activation_list.h"

namespace onepass::bind {
namespace {

constexpr DropoutStream kNoDropout{0, 0, 0};

// Runs a driver on one tensor, whose operands are in the order of `arrays`. The first is written.
template <class Choose>
void run(const Target& target, const Array* const* arrays, int count, bool draws,
         const double* hyper, int64_t hyper_size, const DropoutStream& random, Choose driver) {
  if (arrays[0]->size() == 0) return;
  Layout layout;
  arrange(&layout, arrays, count, draws);
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

// ---- activations: one table forward, one backward, then the options of the formula

constexpr Argument kForward[] = {
    {"x", reference, read | aliased | strided},
    {"out", like_reference, write | strided},
};
constexpr Argument kBackward[] = {
    {"dy", like_reference, read | aliased | strided | pattern},
    {"x", reference, read | aliased | strided},
    {"out", like_reference, write | strided},
};

template <int kArrays, template <class> class A>
struct ActivationTable {
  static constexpr int kOptions = int(decltype(A<float>::hyper)::size);
  char op[48]{};
  Argument arguments[kArrays + kOptions]{};

  constexpr ActivationTable(const Argument (&arrays)[kArrays], const char* suffix) {
    int n = 0;
    for (const char* part : {A<float>::name, suffix})
      while (*part) op[n++] = *part++;
    for (int i = 0; i < kArrays; ++i) arguments[i] = arrays[i];
    for (int i = 0; i < kOptions; ++i) arguments[kArrays + i] = real(A<float>::hyper[size_t(i)]);
  }
};
template <template <class> class A>
constexpr ActivationTable<2, A> kForwardTable(kForward, "");
template <template <class> class A>
constexpr ActivationTable<3, A> kBackwardTable(kBackward, "_backward");
template <template <class> class A>
constexpr Contract kForwardOf = contract(kForwardTable<A>.op, kForwardTable<A>.arguments);
template <template <class> class A>
constexpr Contract kBackwardOf = contract(kBackwardTable<A>.op, kBackwardTable<A>.arguments);

template <int kOptions>
struct Options {
  double at[kOptions + 1];
  Options(const Border& b, int first) {
    for (int i = 0; i < kOptions; ++i) at[i] = b.real(first + i);
  }
};

template <template <class> class A, int kIndex>
py::object forward(Arguments given) {
  enum { kX, kOut, kCount };
  constexpr int kOptions = ActivationTable<kCount, A>::kOptions;
  BorderOf<kForwardOf<A>> b(given);
  const Options<kOptions> options(b, kCount);
  const Array* const arrays[] = {&b[kOut], &b[kX]};
  run(b.check(), arrays, kCount, false, options.at, kOptions, kNoDropout,
      [](const Backend& backend) { return backend.activation[kIndex]; });
  b.finish();
  return b.result(kOut);
}

template <template <class> class A, int kIndex>
py::object backward(Arguments given) {
  enum { kDy, kX, kOut, kCount };
  constexpr int kOptions = ActivationTable<kCount, A>::kOptions;
  BorderOf<kBackwardOf<A>> b(given);
  const Options<kOptions> options(b, kCount);
  const Array* const arrays[] = {&b[kOut], &b[kDy], &b[kX]};
  run(b.check(), arrays, kCount, false, options.at, kOptions, kNoDropout,
      [](const Backend& backend) { return backend.activation_backward[kIndex]; });
  b.finish();
  return b.result(kOut);
}

// Two dictionaries by name: a new activation adds no attribute here and no line to the stub.
template <template <class> class... A, size_t... I>
void define_activations(py::module_& m, host::List<A...>, std::index_sequence<I...>) {
  py::dict forwards, backwards;
  ((forwards[A<float>::name] = make_function(m, kForwardOf<A>, &fast<&forward<A, int(I)>>)), ...);
  ((backwards[A<float>::name] = make_function(m, kBackwardOf<A>, &fast<&backward<A, int(I)>>)),
   ...);
  m.attr("activation") = forwards;
  m.attr("activation_backward") = backwards;
}
template <template <class> class... A>
void define_activations(py::module_& m, host::List<A...> list) {
  define_activations(m, list, std::index_sequence_for<A<float>...>{});
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
  enum { kX, kOut, kP, kSeed, kOffset };
  BorderOf<kDropout> b(given);
  const DropoutStream random = b.dropout(kP, kSeed, kOffset);
  const Array* const arrays[] = {&b[kOut], &b[kX]};
  run(b.check(), arrays, 2, true, nullptr, 0, random,
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
  enum { kOut, kElements, kP, kSeed, kOffset, kPacked };
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
  define_activations(m, host::Activations{});
  define(m, kDropout, &fast<&dropout>);
  define(m, kMask, &fast<&dropout_mask>);
}

}  // namespace onepass::bind
