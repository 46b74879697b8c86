// What the extension _C lends to the others of the package, in a capsule: they have no kernels and
// no threads of their own.
#pragma once
#include <string>

#include "core/passes.h"

namespace onepass {

// The row of hyper-parameters of an optimizer: [given…, the step, scalars…].
struct UpdateRow {
  int32_t hyper = 0, scalars = 0;  // how many; the step is the last of `hyper`
  bool counts_steps = false;       // there is a step
  // Moves the scalars of a row to the step in it, before the update or after it.
  void (*advance)(double* row) = nullptr;
  bool advances_first = true;
};

struct Lent {
  // The level may change between calls.
  const Backend& (*cpu)() = nullptr;
  // cpu/parallel.h.
  void (*parallel_for)(int64_t chunks, void (*fn)(void* context, int64_t chunk),
                       void* context) = nullptr;
  // By the index of a rule; hyper 0: there is none.
  UpdateRow (*update_row)(int32_t rule) = nullptr;
  StepPasses (*passes)(const StepNeeds& needs) = nullptr;
};

// The capsule's name. It says how large the structs are that both sides read, so that an extension
// that was built from other sources than _C finds out before it reads one.
inline const char* lent_name() {
  static const std::string name = [] {
    std::string text = "onepass.Lent";
    for (const size_t size :
         {sizeof(Lent), sizeof(UpdateRow), sizeof(Backend), sizeof(Tensor), sizeof(Elementwise),
          sizeof(GlobalNorm), sizeof(ChannelNorm), sizeof(RowNorm), sizeof(CrossEntropy),
          sizeof(StepNeeds), sizeof(StepCalls), sizeof(StepPasses)})
      text += "." + std::to_string(size);
    return text;
  }();
  return name.c_str();
}

}  // namespace onepass
