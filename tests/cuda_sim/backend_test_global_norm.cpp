// The norm of a list, and an update that reads it where it is.
#include "backend_test.h"

namespace backend_test {
namespace {

// A norm that stays on the device, and an update that reads it there.
void device_norm(std::string* bits) {
  for (const bool poisoned : {false, true}) {
    const int64_t n = 1500;
    Buffer p(DType::f32, n, 1), g(DType::f32, n, 2), h(DType::f64, n, 3), q(DType::f64, n, 4);
    if (poisoned) h.set(700, std::nan(""));
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += g.get(i) * g.get(i) + h.get(i) * h.get(i);
    const std::vector<Operand> a{p.operand(), g.operand()}, b{q.operand(), h.operand()};
    const std::vector<Tensor> tensors{tensor_of(n, DType::f32, a), tensor_of(n, DType::f64, b)};
    GlobalNormResult result{}, again{};
    GlobalNorm norm = norm_of(tensors, &again);
    norm.operand = 1;
    run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
    uint32_t ticket = 0;
    norm.result = &result;
    norm.ticket = &ticket;
    run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
    check(std::memcmp(&result, &again, sizeof(result)) == 0, "a ticket changes the norm");
    check(ticket == 0, "a norm keeps its ticket");
    check(result.first_nonfinite == (poisoned ? 1 : -1), "first_nonfinite is wrong");
    const double want = std::sqrt(sum);
    check(poisoned || std::fabs(result.norm - want) <= 1e-12 * want, "the norm is wrong");

    const double before = p.get(11), gradient = g.get(11);
    const std::vector<double> hyper{0.5, 0, 0, 0, 0, 0, 0, 0};
    Elementwise step = call_on(tensors, hyper);
    step.rider.zero_grad = true;
    step.rider.norm = &result;
    step.rider.max_norm = 3.0;
    step.rider.skip_nonfinite = true;
    run("update", cuda.update[0][0], cuda.elementwise_workspace(step), step);
    const double moved = poisoned ? 0 : 0.5 * gradient * (3.0 / (want + 1e-6));
    check(std::fabs(p.get(11) - (before - moved)) < 1e-6, "the clipped or skipped step is wrong");
    check(g.get(11) == 0 && h.get(11) == 0, "gradients are not left at zero");
    p.append_to(bits);
    q.append_to(bits);
  }
  for (const NormOrder order : {NormOrder::one, NormOrder::two, NormOrder::inf}) {
    Buffer g(DType::bf16, 2100, 5);
    const std::vector<Operand> a{g.operand()};
    const std::vector<Tensor> tensors{tensor_of(2100, DType::f32, a)};
    GlobalNormResult result{};
    GlobalNorm norm = norm_of(tensors, &result);
    norm.order = order;
    norm.unscale = 0.5;
    norm.max_value = 0.75;
    run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
    bits->append(reinterpret_cast<const char*>(&result), sizeof(result));
  }
}

// Every element is finite, but squares, their sum or the norm itself are not normal doubles.
void norms_beyond_double(std::string* bits) {
  struct Row {
    double value, max_value, norm, clamped, unit, moved;
  };
  const double none = GradientRider::kNoLimit;
  for (const Row& row :
       {Row{1e160, none, 2e160, 2e160, 1, 0.5},
        Row{1.5e308, none, none, 1.5e308 / 0x1p63, 0x1p64, 0.5},
        Row{1e-170, none, 2e-170, 2e-170, 1, 1e-170}, Row{1e200, 1e155, 2e200, 2e155, 1, 0.5},
        Row{1e200, 0.25, 2e200, 0.5, 1, 0.25}, Row{0, none, 0, 0, 1, 0}}) {
    Buffer p(DType::f64, 4, 1), g(DType::f64, 4, 2);
    for (int64_t i = 0; i < 4; ++i) {
      p.set(i, 0);
      g.set(i, row.value);
    }
    const std::vector<Operand> a{p.operand(), g.operand()};
    const std::vector<Tensor> tensors{tensor_of(4, DType::f64, a)};
    GlobalNormResult result{};
    GlobalNorm norm = norm_of(tensors, &result);
    norm.operand = 1;
    norm.max_value = row.max_value;
    run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
    const auto close = [](double x, double want) {
      return x == want || std::fabs(x - want) <= 1e-12 * std::fabs(want);
    };
    check(result.first_nonfinite == -1 && result.unit == row.unit, "a finite norm is called Inf");
    check(close(result.norm, row.norm), "the norm beyond double is wrong");
    check(close(result.clamped_norm, row.clamped), "the clamped norm beyond double is wrong");
    const std::vector<double> hyper{1, 0, 0, 0, 0, 0, 0, 0};
    Elementwise step = call_on(tensors, hyper);
    step.rider.max_value = row.max_value;
    step.rider.norm = &result;
    step.rider.max_norm = 1;
    step.rider.skip_nonfinite = true;
    run("update", cuda.update[0][0], cuda.elementwise_workspace(step), step);
    check(close(p.get(0), -row.moved), "the step clipped from beyond double is wrong");
    p.append_to(bits);
  }
}

void norm_of_nothing() {
  uint32_t ticket = 0;
  const std::vector<Tensor> tensors{tensor_of(0, DType::f64, {})};
  GlobalNormResult result{1, 1, 1};
  GlobalNorm norm = norm_of(tensors, &result);
  norm.max_value = 2;
  norm.ticket = &ticket;
  run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
  check(result.norm == 0 && result.first_nonfinite == -1, "the norm of nothing is wrong");
}

}  // namespace

void global_norm_part(std::string* bits) {
  device_norm(bits);
  norms_beyond_double(bits);
  norm_of_nothing();
}

}  // namespace backend_test
