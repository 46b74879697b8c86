// A whole optimizer step in one call.
//
// Arguments: hyper (the bits of doubles, two words each), count (of steps before this one), scalars
// (like hyper), max_norm (empty: no clipping), grad_norm (empty: that of the gradients of this
// call); a number for each place in the attribute "places", instead of the one in hyper; the
// states, each of all parameters one after the other; the parameters; the gradients.
//
// Results: count, scalars, the states, and for each array of parameters what is to be added to it;
// or, with the attribute "in_place", what it becomes.
//
// The attribute "leaves" of a rule that needs sums over each parameter has (height, width, size) of
// each: its last two extents, 0 and 0 where it has fewer than two.
#include <cstring>
#include <optional>
#include <vector>

#include "jax/step.h"

namespace onepass::jax {
namespace {

// A row of hyper-parameters as the kernel takes it, at the step that the call takes.
class Row {
 public:
  Row(const Frame& f, int32_t rule) : rule_(lent().update_row(rule)) {
    values_.resize(size_t(rule_.hyper + rule_.scalars));
    const int32_t given = rule_.hyper - rule_.counts_steps;
    read_hyper(f, values_.data(), given);
    next_count_ = count_after(f);
    if (rule_.counts_steps) values_[size_t(given)] = double(next_count_);
    read_doubles(f.argument(kScalars), own_scalars(), rule_.scalars);
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
// to = after - before, rounded once; `after` may be there already.
template <class S, class A>
void store_difference(void* to, const A* after, const void* before, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const auto difference = widened(after[i]) - widened(static_cast<const S*>(before)[i]);
    if constexpr (std::is_same_v<decltype(widened(S())), S>)
      static_cast<S*>(to)[i] = difference;
    else
      static_cast<S*>(to)[i] = host::from_float<S>(difference);
  }
}
template <class S>
void subtract(void* from, const void* what, int64_t n) {
  store_difference<S>(from, static_cast<const S*>(from), what, n);
}

constexpr int64_t kMostStates = 8;  // of a rule

// Elements that are worked on at once, in the first two levels of cache.
constexpr int64_t kPart = 4096;

struct Updates {
  const StepCalls& step;
  const Tensors& tensors;
  const Schedule& schedule;
  const std::vector<Operand>& results;
};

// Of a tensor by itself.
void run_update(const StepCalls& step, const Tensor& tensor) {
  const OnePiece piece(tensor.size);
  Elementwise call = step.update;
  call.tensors = &tensor;
  call.count = 1;
  call.schedule = piece.view();
  Workspace workspace;
  call.workspace = workspace.of(workspace_bytes(step.backend, call));
  step.backend.update[step.rule][step.variant](call);
}

// A run of one tensor: the parameters are copied to the computing type, moved there, and
// subtracted.
template <class S, class T>
void update_part(const Updates& job, int64_t tensor, int64_t begin, int64_t n) {
  T moving[kPart];
  const Tensor& whole = job.tensors.all[size_t(tensor)];
  const int64_t width = job.tensors.width;
  Operand operands[kFirstState + kMostStates];
  for (int64_t k = 0; k < width; ++k) operands[k] = at(whole.operands[k], begin);
  const void* const before = operands[kParam].data;
  load<S>(moving, before, n);
  operands[kParam] = {moving, whole.computing, nullptr};
  Tensor part = whole;
  part.size = n;
  part.operands = operands;
  run_update(job.step, part);
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
  for (int64_t p = job.schedule.groups[group]; p < job.schedule.groups[group + 1]; ++p)
    update_piece(job, job.schedule.pieces[p]);
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

// The states, in the memory of their results.
std::vector<Operand> states_of(const Frame& f, int64_t first, int64_t count) {
  require(count >= 0 && count <= kMostStates && first + count <= f.arguments() &&
          2 + count <= f.results());
  std::vector<Operand> states;
  for (int64_t s = 0; s < count; ++s) {
    const Buffer from = f.argument(first + s), to = f.result(2 + s);
    require(from.size() == to.size());
    states.push_back(moved(from, to));
  }
  return states;
}

std::vector<Operand> parts_of(const Parameters& all, const std::vector<Buffer>& arrays) {
  std::vector<Operand> parts;
  int64_t element = 0;
  for (size_t i = 0; i < all.leaves.size(); element += all.leaves[i++].size)
    parts.push_back(all.part(arrays, i, element));
  return parts;
}

void run(const StepNeeds& needs, StepCalls* calls) {
  const StepPasses passes = lent().passes(needs);
  Workspace workspace;
  calls->workspace = workspace.of(passes.workspace(*calls));
  for (const StepPass* pass : passes) pass->run(calls);
}

void describe_norm(const Tensors& tensors, StepCalls* calls) {
  tensors.describe(&calls->norm);
  calls->norm.operand = int32_t(kGrad);
  calls->norm.result = &calls->measured;
}

// What max_norm asks for: a norm, unless the call has one, and a factor by which to clip.
void clip(const Frame& f, const Tensors& tensors, StepNeeds* needs, StepCalls* calls) {
  if (f.argument(kMaxNorm).size() == 0) return;
  calls->update.rider.max_norm = max_norm_of(f);
  describe_norm(tensors, calls);
  needs->decision = true;
  needs->global_norm = f.argument(kGradNorm).size() == 0;
  if (!needs->global_norm) calls->measured.clamped_norm = grad_norm_of(f);
}

// The passes over these tensors.
void run_step(const Frame& f, const Parameters& all, const std::vector<Operand>& states,
              int64_t first_state, StepNeeds needs, Tensors* tensors, StepCalls* calls) {
  Elementwise& call = calls->update;
  std::optional<FactoredStates> factored;
  if (needs.factors) {
    factored.emplace(all.leaves, states, tensors);
    const int64_t sizes[] = {factored->rows, factored->columns, factored->elements};
    for (int64_t s = 0; s < 3; ++s) require(f.argument(first_state + s).size() >= sizes[s]);
    factored->describe(&call);
  }
  tensors->describe(&call);
  call.norm_count = f.integer("norms");
  std::vector<double> norms(size_t(call.norm_count * call.count));
  call.norms = norms.data();
  call.rider.coefficient = f.integer("maximize") != 0 ? -1 : 1;
  clip(f, *tensors, &needs, calls);
  run(needs, calls);
}

// What is to be added. `moved`: the results are parameters that have been moved already.
void store_updates(const Parameters& all, const Tensors& tensors, const StepCalls& calls,
                   bool moved) {
  const std::vector<Operand> results = parts_of(all, all.after);
  const Schedule schedule = tensors.schedule.view();
  if (moved) {
    const std::vector<Operand> before = parts_of(all, all.before);
    Differences job{schedule, results, before};
    lent().parallel_for(schedule.group_count, &Differences::group, &job);
  } else {
    Updates job{calls, tensors, schedule, results};
    lent().parallel_for(schedule.group_count, &update_group, &job);
  }
}

}  // namespace

void update(const Frame& f) {
  StepCalls calls{lent().cpu(), int32_t(f.integer("kernel")), int32_t(f.integer("variant"))};
  StepNeeds needs;
  needs.factors = f.integer("factors") > 0;
  needs.norms = f.integer("norms") > 0;
  Row row(f, calls.rule);
  const int64_t first = kNumbers + numbers(f), count = f.integer("states");
  const std::vector<Operand> states = states_of(f, first, count);
  const Parameters all(f, first + count, 2 + count);
  const bool in_place = f.integer("in_place") != 0;
  require(!needs.factors || count == 3);
  for (int64_t s = 0; s < count && !needs.factors; ++s)
    require(f.argument(first + s).size() == all.elements);
  // A rule that needs no sums over its parameter may take it part by part.
  needs.update = in_place || needs.factors || needs.norms;
  if (needs.update) all.move();
  Tensors tensors(all, needs.update ? all.after : all.before, states, !needs.factors);
  row.describe(&calls.update);
  if (all.elements > 0) {
    run_step(f, all, states, first, needs, &tensors, &calls);
    if (!in_place) store_updates(all, tensors, calls, needs.update);
  }
  row.store(f);
}

// x = y + (1 - 1/β)·(z - y), what a schedule-free optimizer evaluates at: a step of SGD along z, as
// python/onepass/optim/_schedule_free.py has it.
//
// Arguments: hyper and count of the optimizer, the parameters y, z. Results: the parameters x. The
// attribute "row" has the hyper-parameters of SGD, whose rate is to be filled in.
void average(const Frame& f) {
  const Buffer hyper = f.argument(0);
  std::vector<double> own(size_t(hyper.size() / 2));
  read_doubles(hyper, own.data(), int64_t(own.size()));
  const int64_t place = f.integer("beta");
  require(place >= 0 && place < int64_t(own.size()));
  int64_t size;
  const double* const given = f.reals("row", &size);
  std::vector<double> row(given, given + size);
  row.at(0) = 1 / own[size_t(place)] - 1;
  const Parameters all(f, 2, 0);
  all.move();
  if (count_of(f.argument(1)) == 0 || all.elements == 0) return;  // y = z = x
  Tensors tensors(all, all.after, {}, true);
  StepCalls calls{lent().cpu(), int32_t(f.integer("kernel")), 0};
  tensors.describe(&calls.update);
  calls.update.hyper = row.data();
  calls.update.hyper_rows = 1;
  calls.update.hyper_size = size;
  run({}, &calls);
}

// Arguments: the gradients. Results: their norm as a number, and as the words of a double.
void global_norm(const Frame& f) {
  Tensors tensors(f.arguments(), 0);
  for (int64_t i = 0; i < f.arguments(); ++i) {
    const Operand gradient = operand_of(f.argument(i));
    tensors.set(i, f.argument(i).size(), gradient, gradient);
  }
  tensors.cut();
  StepCalls calls{lent().cpu(), 0, 0};
  describe_norm(tensors, &calls);
  StepNeeds needs;
  needs.global_norm = true;
  needs.update = false;
  if (calls.norm.schedule.elements > 0) run(needs, &calls);
  const double norm = calls.measured.norm;
  if (dtype_of(f.result(0)) == DType::f64)
    *f.result(0).as<double>() = norm;
  else
    *f.result(0).as<float>() = float(norm);
  std::memcpy(f.result(1).data, &norm, sizeof norm);
}

}  // namespace onepass::jax
