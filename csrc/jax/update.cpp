// A whole optimizer step in one call.
//
// Arguments: hyper (the bits of doubles, two words each), count (of steps before this one), lr
// (empty: that in hyper), scalars (like hyper), the states, each of all parameters one after the
// other, and
//   "updates"   the gradients, then the parameters, as arrays of any shapes
//   "apply"     the parameters, one after the other in one array, then the gradients: arrays that
//               have as many elements together
// Results: count, scalars, the states, and what is to be added to each parameter; or the
// parameters.
#include <cmath>
#include <cstring>
#include <vector>

#include "core/schedule.h"
#include "jax/frame.h"

namespace onepass::jax {
namespace {

constexpr int64_t kHyper = 0, kCount = 1, kLr = 2, kScalars = 3, kStates = 4;  // arguments

// A row of hyper-parameters as the kernel takes it, at the step that the call takes.
class Row {
 public:
  Row(const Frame& f, int32_t rule) : rule_(lent().update_row(rule)) {
    const Buffer hyper = f.argument(kHyper), scalars = f.argument(kScalars);
    values_.resize(size_t(rule_.hyper + rule_.scalars));
    const size_t given = size_t(rule_.hyper - rule_.counts_steps);
    std::memcpy(values_.data(), hyper.data, given * sizeof(double));
    if (f.argument(kLr).size() > 0) values_[size_t(f.integer("rate"))] = f.number(kLr);
    const int64_t rate = f.integer("rate");
    if (rate >= 0 && !(values_[size_t(rate)] >= 0 && std::isfinite(values_[size_t(rate)])))
      throw Refused("'lr' is " + shown(values_[size_t(rate)]) +
                    ", expected a finite number >= 0; an optimizer with a schedule needs "
                    "lr=schedule(state.count) in apply");
    const int32_t count = *f.argument(kCount).as<int32_t>();
    next_count_ = count < INT32_MAX ? count + 1 : count;
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

// Puts states that XLA has not given the memory of their results there.
Operand moved(const Buffer& from, const Buffer& to) {
  if (from.data != to.data)
    std::memcpy(to.data, from.data, size_t(from.size() * size_of(dtype_of(from))));
  return operand_of(to);
}

Operand at(Operand of, int64_t element) {
  of.data = static_cast<char*>(of.data) + element * size_of(of.dtype);
  return of;
}

// The tensors of a step: parameter, gradient, states.
struct Tensors {
  std::vector<Tensor> all;
  std::vector<Operand> operands;
  int64_t width;

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
};

// ---- parameters in place

void apply(const Frame& f, const Elementwise& step, Run<Elementwise> driver,
           const std::vector<Operand>& states) {
  const int64_t first = kStates + int64_t(states.size()), count = f.arguments() - first - 1;
  const Operand parameters = moved(f.argument(first), f.result(f.results() - 1));
  Tensors tensors(count, int64_t(states.size()));
  int64_t element = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Buffer gradient = f.argument(first + 1 + i);
    const int64_t size = gradient.size();
    tensors.set(i, size, at(parameters, element), operand_of(gradient), states, element);
    element += size;
  }
  ScheduleStorage schedule;
  schedule.build(tensors.all.data(), count);
  Elementwise call = step;
  call.tensors = tensors.all.data();
  call.count = count;
  call.schedule = schedule.view();
  if (element > 0) driver(call);
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

void updates(const Frame& f, const Elementwise& step, Run<Elementwise> driver,
             const std::vector<Operand>& states) {
  const int64_t first = kStates + int64_t(states.size()), count = (f.arguments() - first) / 2;
  const int64_t first_result = 2 + int64_t(states.size());
  Tensors tensors(count, int64_t(states.size()));
  Updates job{step, driver, &tensors, {}, {}};
  int64_t element = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Buffer gradient = f.argument(first + i), parameter = f.argument(first + count + i);
    const int64_t size = gradient.size();
    tensors.set(i, size, operand_of(parameter), operand_of(gradient), states, element);
    job.results.push_back(operand_of(f.result(first_result + i)));
    element += size;
  }
  ScheduleStorage schedule;
  schedule.build(tensors.all.data(), count);
  job.schedule = schedule.view();
  lent().parallel_for(job.schedule.group_count, &update_group, &job);
}

}  // namespace

void update(const Frame& f) {
  const int32_t rule = int32_t(f.integer("kernel"));
  const int64_t state_count = f.integer("states");
  Row row(f, rule);
  std::vector<Operand> states;
  for (int64_t s = 0; s < state_count; ++s)
    states.push_back(moved(f.argument(kStates + s), f.result(2 + s)));
  Elementwise step;
  row.describe(&step);
  const Run<Elementwise> driver = lent().cpu().update[rule][f.integer("variant")];
  (f.integer("in_place") != 0 ? apply : updates)(f, step, driver, states);
  row.store(f);
}

}  // namespace onepass::jax
