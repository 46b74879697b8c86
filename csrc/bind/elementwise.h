// An elementwise call on one tensor: activations, dropout, glu.
#pragma once
#include "bind/border.h"
#include "bind/layout.h"
#include "core/philox.h"
#include "core/schedule.h"

namespace onepass::bind {

constexpr DropoutStream kNoDropout{0, 0, 0};

// Runs a driver on one tensor, whose operands are in the order of `arrays`. The first is written.
template <int kCount, class Choose>
void run_tensor(const Target& target, const Array* const (&arrays)[kCount], bool draws,
                const double* hyper, int64_t hyper_size, const DropoutStream& random, Choose driver,
                int64_t repeat = 1) {
  if (arrays[0]->size() == 0) return;
  LayoutOf<kCount> layout;
  arrange(&layout, arrays, kCount, draws);
  Tensor tensor;
  tensor.size = layout.size;
  tensor.shape = layout.shape;
  tensor.ndim = layout.ndim;
  tensor.computing = computing_type(arrays[0]->dtype());
  tensor.operands = layout.operands;
  const OnePiece piece(layout.size);
  Elementwise call;
  call.tensors = &tensor;
  call.count = 1;
  call.schedule = piece.view();
  call.hyper = hyper;
  call.hyper_rows = 1;
  call.hyper_size = hyper_size;
  call.random = random;
  call.repeat = repeat;
  ScheduleStorage schedule;
  if (layout.size > kGroupElements && !target.on_device()) {
    schedule.build(&tensor, 1);
    call.schedule = schedule.view();
  }
  bind::run(target, driver(*target.backend), &call, layout.size);
}

}  // namespace onepass::bind
