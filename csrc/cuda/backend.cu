// The table of the CUDA backend, filled by its units.
#include "core/backend.h"

#include "cuda/host.h"
#include "cuda/units.h"
#define ONEPASS_FORMULA none  // the names in the lists are enough
#include "kernels/tables.h"

namespace {

onepass::Backend make_backend() {
  using namespace onepass::cuda;
  onepass::Backend b;
  static onepass::host::Tables tables;
  tables.lend(&b);
  b.name = "cuda";
  add_activations(&b);
  add_bias(&b);
  add_updates(&b);
  add_norms(&b);
  add_losses(&b);
  b.last_error = &last_error;
  b.use_device = &use_device;
  b.host_word = &host_word;
  return b;
}

}  // namespace

extern "C" const onepass::Backend* onepass_cuda_backend() {
  static const onepass::Backend backend = make_backend();
  return &backend;
}
