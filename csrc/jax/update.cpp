// A whole optimizer step in one call.
//
// Arguments: hyper (the bits of doubles, two words each), count (of steps before this one), lr
// (empty: that in hyper), scalars (like hyper), max_norm (empty: no clipping), grad_norm (empty:
// that of the gradients of this call), the states, each of all parameters one after the other, and
//   "updates"   the gradients, then the parameters, as arrays of any shapes
//   "apply"     the parameters, one after the other in one array, then the gradients: arrays that
//               have as many elements together
// Results: count, scalars, the states, and what is to be added to each parameter; or the
// parameters.
//
// The attribute "leaves" of a rule that needs sums over each parameter has (height, width, size) of
// each: its last two extents, 0 and 0 where it has fewer than two.
#include <cstring>
#include <optional>
#include <vector>

#include "jax/passes.h"

namespace onepass::jax {
namespace {

// A row of hyper-parameters as the kernel takes it, at the step that the call takes.
class Row {
 public:
  Row(const Frame& f, int32_t rule) : rule_(lent().update_row(rule)) {
    const Buffer hyper = f.argument(kHyper), scalars = f.argument(kScalars);
    values_.resize(size_t(rule_.hyper + rule_.scalars));
    const size_t given = size_t(rule_.hyper - rule_.counts_steps);
    std::memcpy(values_.data(), hyper.data, given * sizeof(double));
    const int64_t rate = f.integer("rate");
    if (rate >= 0) values_[size_t(rate)] = rate_of(f, values_[size_t(rate)]);
    next_count_ = count_after(f);
    if (rule_.counts_steps) values_[given] = double(next_count_);
    std::memcpy(own_scalars(), scalars.data, size_t(rule_.scalars) * sizeof(double));
    if (rule_.scalars > 0 && rule_.advances_first) rule_.advance(values_.data());
  }
  // The count and the scalars after the step.
  void store(const Frame& f) {
    if (rule_.scalars > 0 && !rule_.advances_first) rule_.advance(values_.data());
    *f.result(0).as<int32_t>() = next_count_;
    std::memcpy(f.result(1).data, own_scalars(), size_t(rule_.scalars) * sizeof(double));
  }
  void describe(Elementwise* call) const {
    call->hyper = values_.data();
    call->hyper_rows = 1;
    call->hyper_size = int64_t(values_.size());
  }

 private:
  double* own_scalars() { return values_.data() + rule_.hyper; }

  UpdateRow rule_;
  int32_t next_count_;
  std::vector<double> values_;
};

// ---- parameters in place

// Over whole parameters, which are moved.
void run(const Frame& f, const Passes& passes, const std::vector<Leaf>& leaves,
         const std::vector<Operand>& states, Tensors* tensors, Elementwise step) {
  tensors->cut();
  std::optional<FactoredStates> factored;
  if (passes.factors > 0) factored.emplace(leaves, states, tensors);
  tensors->describe(&step);
  if (step.schedule.elements == 0) return;
  passes.clip(f, *tensors, &step);
  passes.run(step, factored ? &*factored : nullptr);
}

void apply(const Frame& f, const Passes& passes, const Elementwise& step,
           const std::vector<Operand>& states) {
  const int64_t first = kStates + int64_t(states.size());
  const Operand parameters = moved(f.argument(first), f.result(f.results() - 1));
  std::vector<Leaf> leaves = leaves_of(f);
  if (leaves.empty())
    for (int64_t i = first + 1; i < f.arguments(); ++i)
      leaves.push_back({0, 0, f.argument(i).size()});
  // Each in an array of its own, or all in one.
  const bool flat = f.arguments() - first - 1 != int64_t(leaves.size());
  Tensors tensors(int64_t(leaves.size()), int64_t(states.size()));
  int64_t element = 0;
  for (size_t i = 0; i < leaves.size(); element += leaves[i++].size) {
    const Operand gradient = operand_of(f.argument(first + 1 + (flat ? 0 : int64_t(i))));
    tensors.set(int64_t(i), leaves[i].size, at(parameters, element),
                flat ? at(gradient, element) : gradient, passes.of_elements(states), element);
  }
  run(f, passes, leaves, states, &tensors, step);
}

// ---- what is to be added

template <class T>
T widened(T x) {
  return x;
}
float widened(Half x) { return host::to_float(x); }
float widened(BFloat16 x) { return host::to_float(x); }

template <class S, class T>
void load(T* to, const void* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = widened(static_cast<const S*>(from)[i]);
}
// to = after - before, rounded once.
template <class S, class T>
void store_difference(void* to, const T* after, const void* before, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const T difference = after[i] - widened(static_cast<const S*>(before)[i]);
    if constexpr (std::is_same_v<S, T>)
      static_cast<S*>(to)[i] = difference;
    else
      static_cast<S*>(to)[i] = host::from_float<S>(difference);
  }
}

// Elements that are worked on at once, in the first two levels of cache.
constexpr int64_t kPart = 4096;

struct Updates {
  Elementwise step;
  Run<Elementwise> driver;
  Tensors* tensors;
  Schedule schedule;
  std::vector<Operand> results;
};

// A run of one tensor: the parameters are copied to the computing type, moved there, and
// subtracted.
template <class S, class T>
void update_part(const Updates& job, int64_t tensor, int64_t begin, int64_t n) {
  T moving[kPart];
  const Tensor& whole = job.tensors->all[size_t(tensor)];
  const int64_t width = job.tensors->width;
  Operand operands[kFirstState + 8];
  for (int64_t k = 0; k < width; ++k) operands[k] = at(whole.operands[k], begin);
  const void* const before = operands[kParam].data;
  load<S>(moving, before, n);
  operands[kParam] = {moving, whole.computing, nullptr};
  Tensor part = whole;
  part.size = n;
  part.operands = operands;
  const Piece piece{0, 0, n};
  const int64_t group[] = {0, 1};
  Elementwise call = job.step;
  call.tensors = &part;
  call.count = 1;
  call.schedule.pieces = &piece;
  call.schedule.groups = group;
  call.schedule.group_count = 1;
  call.schedule.elements = n;
  job.driver(call);
  store_difference<S>(at(job.results[size_t(tensor)], begin).data, moving, before, n);
}

void update_piece(const Updates& job, const Piece& piece) {
  const DType dtype = job.results[size_t(piece.tensor)].dtype;
  for (int64_t done = 0; done < piece.size; done += kPart) {
    const int64_t left = piece.size - done, n = left < kPart ? left : kPart;
    const int64_t begin = piece.begin + done;
    switch (dtype) {
      case DType::f32:
        update_part<float, float>(job, piece.tensor, begin, n);
        break;
      case DType::f64:
        update_part<double, double>(job, piece.tensor, begin, n);
        break;
      case DType::f16:
        update_part<Half, float>(job, piece.tensor, begin, n);
        break;
      case DType::bf16:
        update_part<BFloat16, float>(job, piece.tensor, begin, n);
    }
  }
}

void update_group(void* context, int64_t group) {
  const Updates& job = *static_cast<const Updates*>(context);
  const Schedule& schedule = job.schedule;
  for (int64_t p = schedule.groups[group]; p < schedule.groups[group + 1]; ++p)
    update_piece(job, schedule.pieces[p]);
}

template <class S>
void subtract(void* to, const void* from, int64_t n) {
  S* const result = static_cast<S*>(to);
  for (int64_t i = 0; i < n; ++i) {
    const auto difference = widened(result[i]) - widened(static_cast<const S*>(from)[i]);
    if constexpr (std::is_same_v<decltype(widened(S())), S>)
      result[i] = difference;
    else
      result[i] = host::from_float<S>(difference);
  }
}

// The results are parameters that have been moved: takes off what they were.
struct Differences {
  const Schedule& schedule;
  const std::vector<Operand>& results;
  const std::vector<Operand>& before;

  static void group(void* context, int64_t g) {
    const Differences& job = *static_cast<const Differences*>(context);
    for (int64_t p = job.schedule.groups[g]; p < job.schedule.groups[g + 1]; ++p) {
      const Piece& piece = job.schedule.pieces[p];
      const Operand to = at(job.results[size_t(piece.tensor)], piece.begin);
      const Operand from = at(job.before[size_t(piece.tensor)], piece.begin);
      switch (to.dtype) {
        case DType::f32:
          subtract<float>(to.data, from.data, piece.size);
          break;
        case DType::f64:
          subtract<double>(to.data, from.data, piece.size);
          break;
        case DType::f16:
          subtract<Half>(to.data, from.data, piece.size);
          break;
        default:
          subtract<BFloat16>(to.data, from.data, piece.size);
      }
    }
  }
};

void updates(const Frame& f, const Passes& passes, const Elementwise& step,
             const std::vector<Operand>& states) {
  const int64_t first = kStates + int64_t(states.size()), count = (f.arguments() - first) / 2;
  const int64_t first_result = 2 + int64_t(states.size());
  Tensors tensors(count, int64_t(states.size()));
  std::vector<Operand> results, before;
  int64_t element = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Buffer gradient = f.argument(first + i), parameter = f.argument(first + count + i);
    const Buffer result = f.result(first_result + i);
    before.push_back(operand_of(parameter));
    results.push_back(passes.whole() ? moved(parameter, result) : operand_of(result));
    tensors.set(i, gradient.size(), passes.whole() ? results.back() : before.back(),
                operand_of(gradient), passes.of_elements(states), element);
    element += gradient.size();
  }
  if (element == 0) return;
  if (passes.whole()) {
    run(f, passes, leaves_of(f), states, &tensors, step);
    const Schedule schedule = tensors.schedule.view();
    Differences job{schedule, results, before};
    lent().parallel_for(schedule.group_count, &Differences::group, &job);
  } else {
    tensors.cut();
    Updates job{step, passes.update(), &tensors, tensors.schedule.view(), results};
    passes.clip(f, tensors, &job.step);
    lent().parallel_for(job.schedule.group_count, &update_group, &job);
  }
}

}  // namespace

void update(const Frame& f) {
  const Passes passes(f);
  const int64_t state_count = f.integer("states");
  Row row(f, passes.rule);
  std::vector<Operand> states;
  for (int64_t s = 0; s < state_count; ++s)
    states.push_back(moved(f.argument(kStates + s), f.result(2 + s)));
  Elementwise step;
  row.describe(&step);
  (f.integer("in_place") != 0 ? apply : updates)(f, passes, step, states);
  row.store(f);
}

// Arguments: the gradients. Results: their norm as a number, and as the words of a double.
void global_norm(const Frame& f) {
  Tensors tensors(f.arguments(), 0);
  for (int64_t i = 0; i < f.arguments(); ++i) {
    const Operand gradient = operand_of(f.argument(i));
    tensors.set(i, f.argument(i).size(), gradient, gradient, {}, 0);
  }
  tensors.cut();
  const double norm = norm_of(tensors).norm;
  if (dtype_of(f.result(0)) == DType::f64)
    *f.result(0).as<double>() = norm;
  else
    *f.result(0).as<float>() = float(norm);
  std::memcpy(f.result(1).data, &norm, sizeof norm);
}

}  // namespace onepass::jax
