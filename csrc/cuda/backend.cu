// The table of the CUDA backend, filled by its units.
#include "core/backend.h"

#include "cuda/contexts.h"
#include "cuda/host.h"
#include "formula_units.h"
#define ONEPASS_FORMULA none  // the names in the lists are enough
#include "kernels/tables.h"

// unit(name, ) for every unit that fills a part of the table. CMake lists those of formulas.
#define ONEPASS_UNITS(unit)                                                                  \
  unit(bias, ) unit(dropout, ) unit(losses, ) unit(channel_norms, ) unit(passes, )           \
      unit(pointwise_losses, ) unit(workspaces, ) unit(rows, ) unit(row_norms, ) unit(glu, ) \
          unit(windows, ) ONEPASS_FORMULA_UNITS(unit, )
#define ONEPASS_DECLARE_UNIT(name, level) void add_##name(Backend*);
#define ONEPASS_FILL_FROM(name, level) add_##name(&b);

namespace onepass {
namespace cuda {
ONEPASS_UNITS(ONEPASS_DECLARE_UNIT)
}  // namespace cuda
}  // namespace onepass

namespace {

onepass::Backend make_backend() {
  using namespace onepass::cuda;
  onepass::Backend b;
  static onepass::host::Tables tables;
  tables.lend(&b);
  b.name = "cuda";
  ONEPASS_UNITS(ONEPASS_FILL_FROM)
  b.last_error = &last_error;
  b.enter_device = &enter_device;
  b.leave_device = &leave_device;
  b.current_device = &current_device;
  b.host_word = &host_word;
  b.captures = &captures;
  return b;
}

}  // namespace

extern "C" const onepass::Backend* onepass_cuda_backend() {
  static const onepass::Backend backend = make_backend();
  return &backend;
}
