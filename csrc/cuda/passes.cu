// The passes of an optimizer step around the update: the global norm, the norms of each tensor that
// diagnostics ask for, the limit of rows.
#include "cuda/flushed.h"

#include "cuda/global_norm.cuh"
#include "cuda/limit_rows.cuh"
#include "cuda/loops.cuh"
#include "cuda/tensor_norms.cuh"
#include "cuda/units.h"
#include "kernels/watch.h"

ONEPASS_BEGIN
namespace {

void write(const HostBytes& bytes) {
  const auto* from = static_cast<const unsigned char*>(bytes.from);
  write_changes(static_cast<unsigned char*>(bytes.to), {}, {from, from + bytes.size},
                static_cast<cudaStream_t>(bytes.stream));
}

}  // namespace
ONEPASS_END

ONEPASS_CUDA_UNIT(passes) {
  using namespace onepass::ONEPASS_ISA;
  backend->watch_before = &tensor_norms::measure<Variant<WatchBefore, 0>::Measure, onepass::kGrad>;
  backend->watch_after = &tensor_norms::measure<Variant<WatchAfter, 0>::Measure, onepass::kGrad>;
  backend->limit_rows = &limit_rows;
  backend->global_norm = &global_norm;
  backend->global_norm_workspace = &global_norm_workspace;
  backend->write = &write;
}
