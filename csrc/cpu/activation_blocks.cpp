#include "cpu/activation_blocks.h"

#define ONEPASS_FORMULA none  // the names in the list are enough
#include "kernels/activation_list.h"

ONEPASS_BEGIN
namespace {

// Aligned: away from words that other threads write.
template <class T>
struct alignas(64) Entries {
  typename ActivationBlocks<T>::Forward forward[count_of(Activations{})];
  typename ActivationBlocks<T>::Backward backward[count_of(Activations{})];
};
Entries<float> single;
Entries<double> twice;
alignas(64) ActivationTable table = {{single.forward, single.backward},
                                     {twice.forward, twice.backward}};

}  // namespace

ActivationTable* activation_table() { return &table; }

ONEPASS_END
