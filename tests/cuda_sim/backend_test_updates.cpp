// Updates, what they measure before, and steps counted on the device.
#include "backend_test_updates.h"
#include "backend_test.h"

namespace backend_test {
namespace {

// The update of a rule without optional states.
Run<Elementwise> update_of(const char* rule) {
  Run<Elementwise> found = nullptr;
  int index = -1;
  onepass::cuda::for_each_variant(onepass::cuda::Updates{}, [&](auto r, auto variant) {
    index += variant.on == 0;
    if (variant.on == 0 && std::strcmp(decltype(r)::name, rule) == 0) found = cuda.update[index][0];
  });
  return found;
}

// A rule with two states, on six tensors in both computing types, two of which share a counter and
// one of which is empty; with rows that know the step and the scalars (counted false), or from
// counts on the device.
struct Counted {
  const char* rule;
  std::vector<double> hyper;  // without the step
  double start = 0;           // of its one scalar; 0: it has none
  void (*advance)(double* row) = nullptr;
};
const Counted kAdamW{"adamw", {0.1, 0.9, 0.99, 1e-8, 0.01, 1, 0, 1, 0, 0, 1, 0}};
const Counted kNAdam{"nadam", {0.1, 0.9, 0.99, 1e-8, 0.01, 0.3, 0, 1}, 1, [](double* row) {
                       onepass::cuda::advance<onepass::cuda::NAdam>(row);
                     }};

void counted_steps(const Counted& rule, bool counted, bool skips, std::string* bits,
                   bool zeroes = true) {
  const int64_t sizes[] = {1500, 40, 0, 2100, 33, 1025}, counters[] = {4, 1, 0, 1, 3, 2};
  const int64_t taken[] = {6, 2, 9, 0, 41};
  double scalars[5];
  for (int i = 0; i < 5; ++i) scalars[i] = rule.start - 0.125 * i;
  std::vector<Buffer> buffers;
  std::vector<std::vector<Operand>> operands(6);
  std::vector<Tensor> tensors;
  std::vector<double> hyper, advanced(5);
  for (int64_t t = 0; t < 6; ++t) {
    const DType d = t == 3 || t == 4 ? DType::f64 : DType::f32;
    for (int o = 0; o < 4; ++o) {
      buffers.emplace_back(d, sizes[t], unsigned(40 + 4 * t + o));
      for (int64_t i = 0; o == 3 && i < sizes[t]; ++i) buffers.back().set(i, 0.25);
      operands[size_t(t)].push_back(buffers.back().operand());
    }
    tensors.push_back(tensor_of(sizes[t], d, operands[size_t(t)]));
    tensors.back().hyper_set = int32_t(counted ? t % 2 : t);
    tensors.back().parameter = counters[t];
    std::vector<double> row = rule.hyper;
    if (t % 2 == 0) row[0] = 0.2;
    row.push_back(double(taken[counters[t]] + 1));
    if (rule.advance) {
      row.push_back(scalars[counters[t]]);
      rule.advance(row.data());
      advanced[size_t(counters[t])] = row.back();
    }
    if (counted)  // what the device puts in itself
      for (size_t i = rule.hyper.size(); i < row.size(); ++i) row[i] = 0;
    hyper.insert(hyper.end(), row.begin(), row.end());
  }
  int64_t steps[] = {6, 2, 9, 0, 41};
  double before[5];
  std::memcpy(before, scalars, sizeof(scalars));
  uint32_t ticket = 0;
  const GlobalNormResult bad{0, 0, 3};
  Elementwise call = call_on(tensors, hyper, 6);
  call.rider.zero_grad = zeroes;
  call.rider.norm = skips ? &bad : nullptr;
  call.rider.skip_nonfinite = call.rider.zero_skipped = skips;
  if (counted) {
    call.rider.steps = steps;
    call.rider.scalars = rule.advance ? scalars : nullptr;
    call.rider.ticket = &ticket;
  }
  run(rule.rule, update_of(rule.rule), cuda.elementwise_workspace(call), call);
  const bool advances = counted && !skips;
  for (int i = 0; i < 5; ++i) {
    check(steps[i] == taken[i] + advances, "steps are counted wrongly");
    const double wanted = advances && rule.advance ? advanced[size_t(i)] : before[i];
    check(scalars[i] == wanted, "scalars advance wrongly");
  }
  check(ticket == 0, "an update keeps its ticket");
  for (size_t b = 0; b < buffers.size(); ++b) {
    if (skips && b % 4 != 1) {  // of a skipped step, only the gradients
      const Buffer fresh(sizes[b / 4] == 2100 || sizes[b / 4] == 33 ? DType::f64 : DType::f32,
                         sizes[b / 4], unsigned(40 + b));
      for (int64_t i = 0; b % 4 != 3 && i < sizes[b / 4]; ++i)
        check(buffers[b].get(i) == fresh.get(i), "a skipped step changes something");
    }
    buffers[b].append_to(bits);
  }
}

}  // namespace

void counted_steps_part(std::string* bits) {
  for (const Counted& rule : {kAdamW, kNAdam}) {
    std::string plain, here;
    counted_steps(rule, false, false, &plain);
    counted_steps(rule, true, false, &here);
    check(here == plain, "steps from the device give other bits");
    *bits += here;
    counted_steps(rule, true, true, bits);
    counted_steps(rule, true, true, bits, false);
  }
  // Nothing but empty tensors: the step counts all the same.
  int64_t steps[] = {7, 7};
  uint32_t ticket = 0;
  std::vector<Tensor> tensors{tensor_of(0, DType::f64, {})};
  tensors[0].parameter = 1;
  const std::vector<double> hyper{0.1, 0, 0, 0, 0, 0, 0, 0};
  Elementwise call = call_on(tensors, hyper);
  call.rider.steps = steps;
  call.rider.ticket = &ticket;
  run("sgd", cuda.update[0][0], cuda.elementwise_workspace(call), call);
  check(steps[0] == 7 && steps[1] == 8, "empty tensors do not count");
  // A counter needs its ticket, and the scalars of a rule that has some.
  Elementwise wrong = call;
  wrong.rider.ticket = nullptr;
  cuda.update[0][0](wrong);
  check(cuda.last_error() != nullptr && cuda.last_error() == nullptr, "no ticket, no error");
  wrong = call;
  update_of("nadam")(wrong);
  check(cuda.last_error() != nullptr && cuda.last_error() == nullptr, "no scalars, no error");
}

void updates_part(std::string* bits) {
  GradientRider rider;
  rider.unscale = 0.5;
  rider.max_value = 0.75;
  rider.coefficient = -0.5;
  rider.zero_grad = true;
  for (const DType d : dtypes())
    for_updates([&](int index, auto variant) {
      using K = KernelOf<decltype(variant)>;
      constexpr int kArity = int(Signature<K>::arity);
      const auto call = [&](const char* name, Run<Elementwise> function, bool measures) {
        elementwise(name, function, kArity, d, options_of(K::hyper.size), rider, bits, 1, measures);
      };
      call("update", cuda.update[index][variant.on], false);
      if (cuda.measure[index]) call("measure", cuda.measure[index][variant.on], true);
    });
  // Longer tables: in a large launch, and written by kernels.
  elementwise("long list", cuda.update[0][0], 2, DType::f32, kOptions, kPlain, bits, 30);
  elementwise("longer list", cuda.update[0][0], 2, DType::f64, kOptions, kPlain, bits, 30);
}

}  // namespace backend_test
