// Losses of rows: cross-entropy, nll_loss, wasserstein_1d.
#include "backend_test.h"

namespace backend_test {
namespace {

void cross_entropy(int64_t outer, int64_t classes, int64_t inner, DType d, int kind,
                   std::string* bits) {
  const int64_t n = outer * classes * inner, positions = outer * inner;
  Buffer x(d, n, 1, kind % 2), dx(d, n, 2, kind % 2), t(d, n, 3), w(computing(d), classes, 4);
  Buffer losses(d, positions, 5);
  std::vector<int64_t> labels;
  for (int64_t p = 0; p < positions; ++p) labels.push_back(p % classes);
  labels[0] = -100;
  uint32_t bad = 0;
  if (on_device && kind == 2) labels.back() = classes;
  double loss = 0;
  CrossEntropy call{};
  call.outer = outer;
  call.classes = classes;
  call.inner = inner;
  call.dtype = d;
  call.logits = x.data();
  call.dlogits = kind == 0 ? x.data() : dx.data();
  if (kind == 3) {
    call.probabilities = t.data();
  } else {
    call.labels = labels.data();
  }
  call.weight = kind > 0 ? w.vector() : ChannelVector{};
  call.label_smoothing = kind > 1 ? 0.1 : 0;
  call.ignore_index = -100;
  call.reduction = kind == 1 ? Reduction::none : kind == 2 ? Reduction::sum : Reduction::mean;
  if (kind != 1) call.loss = {&loss, DType::f64};
  call.losses = kind == 1 ? losses.data() : nullptr;
  call.bad_label = &bad;
  run("cross_entropy", cuda.cross_entropy, cuda.cross_entropy_workspace(call), call);
  check(bad == (on_device && kind == 2 ? 1u : 0u), "bad_label is wrong");
  if (on_device && kind == 2 && d == DType::f32) {
    const int64_t o = outer - 1, i = inner - 1;
    for (int64_t c = 0; c < classes; ++c)
      check(dx.get((o * classes + c) * inner + i) == 0, "a bad label leaves a gradient");
    check(std::isnan(loss), "a bad label leaves a loss");
  }
  for (const Buffer* each : {&x, &dx, &losses}) each->append_to(bits);
  bits->append(reinterpret_cast<const char*>(&loss), sizeof(loss));
}

// nll_loss and wasserstein_1d.
void other_losses(int64_t outer, int64_t classes, int64_t inner, DType d, std::string* bits) {
  const int64_t n = outer * classes * inner, positions = outer * inner;
  Buffer x(d, n, 1), t(d, n, 2), dx(d, n, 3), losses(d, positions, 4);
  std::vector<int64_t> labels;
  for (int64_t p = 0; p < positions; ++p) labels.push_back(p % classes);
  labels[0] = -100;
  for (const Reduction reduction : {Reduction::none, Reduction::mean}) {
    double loss = 0;
    CrossEntropy call{};
    call.outer = outer;
    call.classes = classes;
    call.inner = inner;
    call.dtype = d;
    call.logits = x.data();
    call.dlogits = dx.data();
    call.reduction = reduction;
    call.ignore_index = -100;
    if (reduction == Reduction::none) {
      call.losses = losses.data();
    } else {
      call.loss = {&loss, DType::f64};
    }
    const int64_t bytes = cuda.cross_entropy_workspace(call);
    call.labels = labels.data();
    run("nll_loss", cuda.nll_loss, bytes, call);
    dx.append_to(bits);
    call.labels = nullptr;
    call.probabilities = t.data();
    if (inner == 1) run("wasserstein_1d", cuda.wasserstein_1d, bytes, call);
    for (const Buffer* each : {&dx, &losses}) each->append_to(bits);
    bits->append(reinterpret_cast<const char*>(&loss), sizeof(loss));
  }
}

}  // namespace

void row_losses_part(std::string* bits) {
  for (const DType d : dtypes()) {
    other_losses(5, 33, 1, d, bits);
    other_losses(2, 5, 7, d, bits);
  }
  for (const DType d : dtypes())
    for (int kind = 0; kind < 4; ++kind) {
      cross_entropy(5, 33, 1, d, kind, bits);
      cross_entropy(3, 1029, 1, d, kind, bits);
      cross_entropy(2, 5, 7, d, kind, bits);
    }
}

}  // namespace backend_test
