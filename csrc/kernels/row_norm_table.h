// Fills Backend::row_norm and ::row_norm_backward with what a backend's driver makes of the rules.
// Included behind that driver: row_norm and row_norm_backward.
#pragma once
#include "kernels/row_norm_list.h"

ONEPASS_BEGIN
namespace {

template <template <class> class... R>
void add_row_norms(Backend* backend, List<R...>) {
  int index = 0;
  ((backend->row_norm[index] = &row_norm<R>,
    backend->row_norm_backward[index++] = &row_norm_backward<R>),
   ...);
}

}  // namespace
ONEPASS_END
