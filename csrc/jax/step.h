// The numbers and tensors of an optimizer's step in a call by XLA.
#pragma once
#include <cmath>
#include <cstring>
#include <vector>

#include "core/factored.h"
#include "core/schedule.h"
#include "jax/frame.h"

namespace onepass::jax {

// Arguments. Those behind them are numbers of this call, then the states.
constexpr int64_t kHyper = 0, kCount = 1, kScalars = 2, kMaxNorm = 3, kGradNorm = 4, kNumbers = 5;

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

// onepass.jax checks what it is given: this is what keeps a call inside of its memory whoever makes
// it.
inline void require(bool fits) {
  if (!fits)
    throw Refused(
        "the arrays have other sizes than this release of onepass gives them: make the "
        "state anew, with init");
}

// ---- numbers of the step

inline void read_doubles(const Buffer& words, double* to, int64_t count) {
  require(words.type == XLA_FFI_DataType_U32 && words.size() == 2 * count);
  if (count > 0) std::memcpy(to, words.data, size_t(count) * sizeof(double));
}

inline int64_t numbers(const Frame& f) {
  int64_t count;
  f.reals("places", &count);
  return count;
}

// The hyper-parameters: those of the state, and those of the call in their places.
inline void read_hyper(const Frame& f, double* values, int64_t count) {
  read_doubles(f.argument(kHyper), values, count);
  int64_t given;
  const double* const places = f.reals("places", &given);
  for (int64_t i = 0; i < given; ++i) {
    const auto place = int64_t(places[i]);
    require(place >= 0 && place < count);
    values[place] = f.number(kNumbers + i);
  }
  const int64_t rate = f.integer("rate");
  require(rate < count);
  if (rate >= 0 && !(values[rate] >= 0 && std::isfinite(values[rate])))
    throw Refused("'lr' is " + shown(values[rate]) +
                  ", expected a finite number >= 0; an optimizer with a schedule needs "
                  "lr=schedule(state.count) in apply");
  for (int64_t i = 0; i < count; ++i)
    if (std::isnan(values[i]))
      throw Refused(
          "an option is nan, expected a number; one that an optimizer was given as an "
          "array reaches its update, and not apply");
}

// Of the steps before this one, and with it.
inline int32_t count_of(const Buffer& count) {
  require(count.type == XLA_FFI_DataType_S32 && count.size() == 1);
  return *count.as<int32_t>();
}
inline int32_t count_after(const Frame& f) {
  const int32_t count = count_of(f.argument(kCount));
  return count < INT32_MAX ? count + 1 : count;
}

// Where the call has one.
inline double max_norm_of(const Frame& f) {
  const double max_norm = f.number(kMaxNorm);
  if (!(max_norm > 0)) throw Refused("'max_norm' is " + shown(max_norm) + ", expected > 0");
  return max_norm;
}

inline double grad_norm_of(const Frame& f) {
  const double norm = f.number(kGradNorm);
  if (norm < 0) throw Refused("'grad_norm' is " + shown(norm) + ", expected >= 0");
  return norm;
}

// ---- parameters

// A parameter: its last two extents, and its size.
struct Leaf {
  int64_t height = 0, width = 0, size = 0;
};

// The parameters of a call. Each of these lists has an array for each of them, or one in which they
// lie one after the other.
struct Parameters {
  std::vector<Leaf> leaves;
  std::vector<Buffer> before, after;  // the parameters, and the results in their place
  std::vector<Buffer> gradients;      // behind the parameters
  int64_t elements = 0;

  Parameters(const Frame& f, int64_t first, int64_t first_result) {
    const int64_t count = f.results() - first_result;
    require(count >= 0 && first + count <= f.arguments());
    for (int64_t i = 0; i < count; ++i) {
      before.push_back(f.argument(first + i));
      after.push_back(f.result(first_result + i));
    }
    for (int64_t i = first + count; i < f.arguments(); ++i) gradients.push_back(f.argument(i));
    read_leaves(f);
    for (const Leaf& leaf : leaves) elements += leaf.size;
    for (const auto* arrays : {&before, &after, &gradients}) check(*arrays);
  }
  // Of one of the lists, parameter i, whose first element is that one of all.
  Operand part(const std::vector<Buffer>& arrays, size_t i, int64_t element) const {
    return one_each(arrays) ? operand_of(arrays[i]) : at(operand_of(arrays[0]), element);
  }
  void move() const {
    for (size_t i = 0; i < before.size(); ++i) moved(before[i], after[i]);
  }

 private:
  // Those in the attribute, which a rule that needs nothing of whole parameters does without.
  void read_leaves(const Frame& f) {
    int64_t count;
    const double* const numbers = f.reals("leaves", &count);
    for (int64_t i = 0; i + 2 < count; i += 3)
      leaves.push_back({int64_t(numbers[i]), int64_t(numbers[i + 1]), int64_t(numbers[i + 2])});
    if (count > 0) return;
    for (const Buffer& b : gradients.size() > before.size() ? gradients : before)
      leaves.push_back({0, 0, b.size()});
  }
  bool one_each(const std::vector<Buffer>& arrays) const { return arrays.size() == leaves.size(); }
  void check(const std::vector<Buffer>& arrays) const {
    if (!one_each(arrays)) return require(arrays.size() == 1 && arrays[0].size() == elements);
    for (size_t i = 0; i < arrays.size(); ++i) require(arrays[i].size() == leaves[i].size);
  }
};

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
  // `moving`: before or after. States of elements are those of all parameters one after the other;
  // FactoredStates sets the others.
  Tensors(const Parameters& given, const std::vector<Buffer>& moving,
          const std::vector<Operand>& states, bool of_elements)
      : Tensors(int64_t(given.leaves.size()), int64_t(states.size())) {
    int64_t element = 0;
    for (size_t i = 0; i < given.leaves.size(); element += given.leaves[i++].size) {
      set(int64_t(i), given.leaves[i].size, given.part(moving, i, element),
          given.part(given.gradients, i, element));
      for (size_t s = 0; s < states.size() && of_elements; ++s)
        of(int64_t(i))[kFirstState + s] = at(states[s], element);
    }
    cut();
  }
  Operand* of(int64_t i) { return operands.data() + i * width; }
  void set(int64_t i, int64_t size, const Operand& parameter, const Operand& gradient) {
    Operand* const own = of(i);
    own[kParam] = parameter;
    own[kGrad] = gradient;
    Tensor& t = all[size_t(i)];
    t.size = size;
    t.computing = computing_type(parameter.dtype);
    t.operands = own;
    t.parameter = i;
  }
  void cut() { schedule.build(all.data(), int64_t(all.size())); }
  template <class Call>
  void describe(Call* call) const {
    call->tensors = all.data();
    call->count = int64_t(all.size());
    call->schedule = schedule.view();
  }
};

// The states of rows and columns of a rule with factors, and what its pass leaves for later ones.
// They are flat: bind/plan_factors.cpp has arrays of any layout.
class FactoredStates {
 public:
  FactoredStates(const std::vector<Leaf>& leaves, const std::vector<Operand>& states,
                 Tensors* tensors) {
    layouts_.resize(leaves.size());
    for (size_t i = 0; i < leaves.size(); ++i) {
      const Leaf& leaf = leaves[i];
      Layout& layout = layouts_[i];
      Tensor& tensor = tensors->all[i];
      Operand* const own = tensors->of(int64_t(i)) + kFirstState;
      Factors factors;
      if (leaf.height > 0 && leaf.width > 0) {
        factors = {leaf.height, leaf.width, at(states[0], rows), at(states[1], columns)};
        layout = {{leaf.size / (leaf.height * leaf.width), leaf.height, leaf.width},
                  {leaf.height, 1, 0},
                  {leaf.width, 0, 1}};
        own[0].dtype = tensor.computing;
        own[1].dtype = factors.columns.dtype;
        rows += leaf.size / leaf.width;
        columns += leaf.size / leaf.height;
      } else {
        factors.rows = at(states[2], elements);
        layout = {{1, 1, leaf.size}, {0, 0, 1}, {0, 0, 0}};
        own[0].dtype = factors.rows.dtype;
        own[1].dtype = tensor.computing;
        elements += leaf.size;
      }
      own[0].strides = layout.of_row;
      own[1].strides = layout.of_column;
      tensor.shape = layout.shape;
      tensor.ndim = 3;
      factors_.push_back(factors);
    }
    place_factored(tensors->all, factors_, memory_.of(factored_bytes(tensors->all, factors_)),
                   [&](size_t t) { return tensors->of(int64_t(t)) + kFirstState; });
  }
  void describe(Elementwise* call) {
    call->factors = factors_.data();
    call->factored = memory_.of(0);
  }

  int64_t rows = 0, columns = 0, elements = 0;  // that all parameters have

 private:
  struct Layout {
    int64_t shape[3], of_row[3], of_column[3];
  };
  Workspace memory_;
  std::vector<Layout> layouts_;
  std::vector<Factors> factors_;
};

}  // namespace onepass::jax
