// The part of the backend that takes subnormal float32 values for zero, as the CPU's optimizers,
// norms and losses do; a unit of its own, because nvcc decides that per unit.
#pragma once
#include "core/backend.h"

namespace onepass {
namespace cuda {

void add_flushed(Backend* backend);

}  // namespace cuda
}  // namespace onepass
