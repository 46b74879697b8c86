// The units of the CUDA backend. Each fills its part of the table.
#pragma once
#include "core/backend.h"

namespace onepass {
namespace cuda {

void add_activations(Backend* backend);
void add_bias(Backend* backend);
void add_updates(Backend* backend);
void add_norms(Backend* backend);
void add_losses(Backend* backend);

}  // namespace cuda
}  // namespace onepass
