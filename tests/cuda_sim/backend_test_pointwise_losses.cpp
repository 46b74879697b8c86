// Losses of elements.
#include "backend_test.h"
#include "kernels/loss_list.h"

namespace backend_test {
namespace {

// One loss of elements: dense, from an odd address, or with a pos_weight for each column.
void pointwise(int index, int64_t rows, int64_t columns, DType d, int kind, std::string* bits) {
  const int64_t n = rows * columns;
  Buffer x(d, n, 1, kind == 1), t(d, n, 2), dx(d, n, 3), w(computing(d), columns, 4);
  Buffer losses(d, n, 5);
  const int64_t shape[] = {rows, columns}, column[] = {0, 1};
  Operand operands[kLossOperands];
  operands[kLossGradient] = kind == 2 ? x.operand() : dx.operand();
  operands[kLossInput] = x.operand();
  operands[kLossTarget] = t.operand();
  if (kind == 2) operands[kLossPosWeight] = w.operand(column);
  if (kind == 1) operands[kLosses] = losses.operand();
  double loss = 0;
  PointwiseLoss call;
  call.tensor.size = n;
  call.tensor.shape = shape;
  call.tensor.ndim = 2;
  call.tensor.computing = computing(d);
  call.tensor.operands = operands;
  call.hyper = kOptions.data();
  call.divisor = kind == 0 ? double(n) : 1;
  if (kind != 1) call.loss = {&loss, DType::f64};
  run("pointwise_loss", cuda.pointwise_loss[index], cuda.pointwise_loss_workspace(call), call);
  for (const Buffer* each : {&x, &dx, &losses}) each->append_to(bits);
  bits->append(reinterpret_cast<const char*>(&loss), sizeof(loss));
}

}  // namespace

void pointwise_losses_part(std::string* bits) {
  for (const DType d : dtypes())
    for (int index = 0; index < onepass::cuda::count_of(onepass::cuda::Losses{}); ++index)
      for (int kind = 0; kind < 3; ++kind) {
        pointwise(index, 3, 11, d, kind, bits);
        if (!kBrief) pointwise(index, 7, 515, d, kind, bits);
      }
}

}  // namespace backend_test
