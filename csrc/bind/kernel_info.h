// What the functors of kernels/list.h say about themselves, as tables that the border reads at run
// time: names, options, operands.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/backend.h"
#include "kernels/list.h"

namespace onepass::bind {

struct KernelInfo {
  const char* name;
  const char* kind;
  std::vector<const char*> operands, hyper;
  std::vector<Access> accesses;
  int32_t index;  // in the Backend's table

  bool reads(size_t o) const { return accesses[o] != Access::write; }
  bool writes(size_t o) const { return accesses[o] != Access::read; }
  // The plan counts steps itself and hands them over as the last hyper-parameter.
  bool counts_steps() const { return !hyper.empty() && std::string(hyper.back()) == "step"; }
};

const std::vector<KernelInfo>& activations();           // y = f(x)
const std::vector<KernelInfo>& activation_backwards();  // dx = f'(x)·dy, same order
const std::vector<KernelInfo>& updates();
const KernelInfo& dropout_info();

// Null where no kernel of the list has that name.
const KernelInfo* find(const std::vector<KernelInfo>& kernels, std::string_view name);
std::string names_of(const std::vector<KernelInfo>& kernels);

}  // namespace onepass::bind
