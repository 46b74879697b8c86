// Activations and dropout.
#include "core/schedule.h"
#include "jax/frame.h"

namespace onepass::jax {
namespace {

// Runs a driver on one tensor, whose operands are in the order of the functor. The first is
// written.
template <int kCount>
void run_tensor(Run<Elementwise> driver, const Buffer (&buffers)[kCount], const double* options,
                int64_t option_count, const DropoutStream& random) {
  Operand operands[kCount];
  for (int i = 0; i < kCount; ++i) operands[i] = operand_of(buffers[i]);
  Tensor tensor;
  tensor.size = buffers[0].size();
  if (tensor.size == 0) return;
  tensor.computing = computing_type(operands[0].dtype);
  tensor.operands = operands;
  ScheduleStorage schedule;
  schedule.build(&tensor, 1);
  Elementwise call;
  call.tensors = &tensor;
  call.count = 1;
  call.schedule = schedule.view();
  call.hyper = options;
  call.hyper_rows = 1;
  call.hyper_size = option_count;
  call.random = random;
  driver(call);
}

}  // namespace

void activation(const Frame& f) {
  int64_t count;
  const double* const options = f.reals("options", &count);
  const Buffer buffers[] = {f.result(0), f.argument(0)};
  run_tensor(lent().cpu().activation[f.integer("kernel")], buffers, options, count, {0, 0, 0});
}

void activation_backward(const Frame& f) {
  int64_t count;
  const double* const options = f.reals("options", &count);
  const Buffer buffers[] = {f.result(0), f.argument(0), f.argument(1)};
  run_tensor(lent().cpu().activation_backward[f.integer("kernel")], buffers, options, count,
             {0, 0, 0});
}

void dropout(const Frame& f) {
  const Buffer buffers[] = {f.result(0), f.argument(0)};
  run_tensor(lent().cpu().dropout, buffers, nullptr, 0, f.dropout(1));
}

}  // namespace onepass::jax
