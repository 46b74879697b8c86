// The tensors of an optimizer's step in a call by XLA, and the passes over them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/factors.h"
#include "core/schedule.h"
#include "jax/frame.h"
#include "kernels/gradient.h"

namespace onepass::jax {

// Arguments.
constexpr int64_t kHyper = 0, kCount = 1, kLr = 2, kScalars = 3, kMaxNorm = 4, kGradNorm = 5,
                  kStates = 6;

inline Operand at(Operand of, int64_t element) {
  of.data = static_cast<char*>(of.data) + element * size_of(of.dtype);
  return of;
}

// Puts what XLA has not given the memory of its result there.
inline Operand moved(const Buffer& from, const Buffer& to) {
  if (from.data != to.data)
    std::memcpy(to.data, from.data, size_t(from.size() * size_of(dtype_of(from))));
  return operand_of(to);
}

// ---- numbers of the step

// The learning rate: that of the call, or else the one given.
inline double rate_of(const Frame& f, double given) {
  const double rate = f.argument(kLr).size() > 0 ? f.number(kLr) : given;
  if (!(rate >= 0 && std::isfinite(rate)))
    throw Refused("'lr' is " + shown(rate) +
                  ", expected a finite number >= 0; an optimizer with a schedule needs "
                  "lr=schedule(state.count) in apply");
  return rate;
}

// Of the steps with this one.
inline int32_t count_after(const Frame& f) {
  const int32_t count = *f.argument(kCount).as<int32_t>();
  return count < INT32_MAX ? count + 1 : count;
}

// Where the call has one.
inline double max_norm_of(const Frame& f) {
  const double max_norm = f.number(kMaxNorm);
  if (!(max_norm > 0)) throw Refused("'max_norm' is " + shown(max_norm) + ", expected > 0");
  return max_norm;
}

// ---- parameters

// A parameter: its last two extents, and its size.
struct Leaf {
  int64_t height = 0, width = 0, size = 0;
};

// Those in the attribute; none where the rule needs none.
inline std::vector<Leaf> leaves_of(const Frame& f) {
  int64_t count = 0;
  const double* numbers = f.reals("leaves", &count);
  std::vector<Leaf> leaves;
  for (int64_t i = 0; i + 2 < count; i += 3)
    leaves.push_back({int64_t(numbers[i]), int64_t(numbers[i + 1]), int64_t(numbers[i + 2])});
  return leaves;
}

// The tensors of a step: parameter, gradient, states.
struct Tensors {
  std::vector<Tensor> all;
  std::vector<Operand> operands;
  int64_t width;
  ScheduleStorage schedule;

  Tensors(int64_t count, int64_t states) : width(kFirstState + states) {
    all.resize(size_t(count));
    operands.resize(size_t(count * width));
  }
  Operand* of(int64_t i) { return operands.data() + i * width; }
  // From `element` on of the states that all parameters share.
  void set(int64_t i, int64_t size, const Operand& parameter, const Operand& gradient,
           const std::vector<Operand>& states, int64_t element) {
    Operand* const own = of(i);
    own[kParam] = parameter;
    own[kGrad] = gradient;
    for (size_t s = 0; s < states.size(); ++s) own[kFirstState + s] = at(states[s], element);
    Tensor& t = all[size_t(i)];
    t.size = size;
    t.computing = computing_type(parameter.dtype);
    t.operands = own;
    t.parameter = i;
  }
  void cut() { schedule.build(all.data(), int64_t(all.size())); }
  void describe(Elementwise* call) const {
    call->tensors = all.data();
    call->count = int64_t(all.size());
    call->schedule = schedule.view();
  }
};

// The norm of all gradients.
inline GlobalNormResult norm_of(const Tensors& tensors) {
  GlobalNormResult found{0, 0, -1};
  GlobalNorm call;
  call.tensors = tensors.all.data();
  call.count = int64_t(tensors.all.size());
  call.schedule = tensors.schedule.view();
  call.operand = int32_t(kGrad);
  call.result = &found;
  if (call.schedule.elements > 0) lent().cpu().global_norm(call);
  return found;
}

// The states of rows and columns of a rule with factors, and what its pass leaves for later ones:
// bind/plan_factors.cpp has the same for a plan.
class FactoredStates {
 public:
  FactoredStates(const std::vector<Leaf>& leaves, const std::vector<Operand>& states,
                 Tensors* tensors) {
    const DType computing = tensors->all.empty() ? DType::f32 : tensors->all[0].computing;
    int64_t bytes = host::kFactoredBytes;
    for (const Leaf& leaf : leaves) bytes += row_bytes(leaf, computing);
    memory_.resize(size_t(bytes) / sizeof(double) + 1);
    auto* const ones = reinterpret_cast<host::Factored*>(memory_.data());
    void* const one =
        computing == DType::f64 ? static_cast<void*>(&ones->double_one) : &ones->float_one;
    char* left = reinterpret_cast<char*>(memory_.data()) + host::kFactoredBytes;
    layouts_.resize(leaves.size());
    int64_t row = 0, column = 0, element = 0;  // that earlier parameters have
    for (size_t i = 0; i < leaves.size(); ++i) {
      const Leaf& leaf = leaves[i];
      Layout& layout = layouts_[i];
      Operand* const own = tensors->of(int64_t(i)) + kFirstState;
      Factors factors{leaf.height, leaf.width, {}, {}};
      if (leaf.height > 0 && leaf.width > 0) {
        const int64_t rows = leaf.size / leaf.width, columns = leaf.size / leaf.height;
        factors.rows = at(states[0], row);
        factors.columns = at(states[1], column);
        layout = {{leaf.size / (leaf.height * leaf.width), leaf.height, leaf.width},
                  {leaf.height, 1, 0},
                  {leaf.width, 0, 1}};
        own[0] = {left, computing, layout.of_row};
        own[1] = {factors.columns.data, factors.columns.dtype, layout.of_column};
        left += row_bytes(leaf, computing);
        row += rows;
        column += columns;
      } else {
        factors.rows = factors.columns = at(states[2], element);
        layout = {{1, 1, leaf.size}, {0, 0, 1}, {0, 0, 0}};
        own[0] = {factors.rows.data, factors.rows.dtype, layout.of_row};
        own[1] = {one, computing, layout.of_column};
        element += leaf.size;
      }
      own[2] = {};
      Tensor& tensor = tensors->all[i];
      tensor.shape = layout.shape;
      tensor.ndim = 3;
      factors_.push_back(factors);
    }
  }
  void describe(Elementwise* call) {
    call->factors = factors_.data();
    call->factored = memory_.data();
  }

 private:
  struct Layout {
    int64_t shape[3], of_row[3], of_column[3];
  };
  static int64_t row_bytes(const Leaf& leaf, DType computing) {
    constexpr int64_t kAlignment = 64;
    const int64_t rows = leaf.width == 0 ? 0 : leaf.size / leaf.width;
    return (rows * size_of(computing) + kAlignment - 1) / kAlignment * kAlignment;
  }
  std::vector<double> memory_;
  std::vector<Layout> layouts_;
  std::vector<Factors> factors_;
};

// What a step runs over its tensors: bind/plan_passes.cpp has the same order.
struct Passes {
  const Backend& backend;
  int32_t rule, variant;
  int64_t norms, factors;  // of the rule

  explicit Passes(const Frame& f)
      : backend(lent().cpu()),
        rule(int32_t(f.integer("kernel"))),
        variant(int32_t(f.integer("variant"))),
        norms(f.integer("norms")),
        factors(f.integer("factors")) {}
  Run<Elementwise> update() const { return backend.update[rule][variant]; }
  // Whether an element's step needs sums over its parameter.
  bool whole() const { return norms > 0 || factors > 0; }
  // The states that have a value for each element.
  std::vector<Operand> of_elements(const std::vector<Operand>& states) const {
    return factors > 0 ? std::vector<Operand>() : states;
  }

  // The factor by which max_norm clips.
  void clip(const Frame& f, const Tensors& tensors, Elementwise* step) const {
    step->rider.coefficient = f.integer("maximize") != 0 ? -1 : 1;
    if (f.argument(kMaxNorm).size() == 0) return;
    const double max_norm = max_norm_of(f);
    GlobalNormResult found{0, 0, -1};
    if (f.argument(kGradNorm).size() > 0)
      found.clamped_norm = f.number(kGradNorm);
    else
      found = norm_of(tensors);
    const host::Clip by = host::clip_to(max_norm, found.clamped_norm, found.unit);
    step->rider.coefficient *= by.coefficient;
    step->rider.rest = by.rest;
  }
  // Over whole tensors, whose parameters are moved.
  void run(Elementwise call, FactoredStates* factored) const {
    std::vector<double> sums(size_t(norms * call.count)), workspace;
    const auto room = [&](int64_t bytes) {
      workspace.resize(std::max(workspace.size(), size_t(bytes) / sizeof(double) + 1));
      call.workspace = workspace.data();
    };
    call.norms = sums.data();
    call.norm_count = norms;
    if (factored) {
      factored->describe(&call);
      if (backend.factor_workspace) room(backend.factor_workspace(call));
      backend.factor[rule][variant](call);
    }
    if (norms > 0) {
      if (backend.measure_workspace) room(backend.measure_workspace(call));
      backend.measure[rule][variant](call);
    }
    update()(call);
  }
};

}  // namespace onepass::jax
