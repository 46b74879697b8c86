// The kernels as tables that the border reads at run time: names, operands, options. Only
// kernel_info.cpp includes the lists of kernels/, so a new kernel recompiles no other part of the
// border.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/backend.h"
#include "core/signature.h"
#include "kernels/loss.h"

namespace onepass::bind {

using host::OptionRange;

// As indices of vectors.
constexpr size_t kParam = size_t(onepass::kParam), kGrad = size_t(onepass::kGrad),
                 kFirstState = size_t(onepass::kFirstState);

struct KernelInfo {
  const char* name;
  const char* kind;
  std::vector<const char*> operands, hyper;
  std::vector<Access> accesses;  // in all passes over the operands, one after the other
  int32_t index;                 // in the Backend's table
  int32_t variant = 0;           // of an optimizer
};

// An optimizer rule (core/rule.h).
struct RuleInfo {
  const char* name;
  std::vector<const char*> states;    // required ones, then optional ones
  std::vector<const char*> optional;  // the last of `states`
  std::vector<const char*> hyper;
  bool counts_steps;                 // the last of `hyper` is the step, which the plan fills in
  std::vector<const char*> scalars;  // of each parameter, beside its step count
  std::vector<double> starts;        // their values before the first step
  std::vector<const char*> norms;    // of each tensor, which a pass before the update measures
  // The last required ones of `states`: those of rows, of columns, and of the elements of tensors
  // without matrices. A kernel has the operands of the first two in their place.
  std::vector<const char*> factors;
  // Moves the scalars of a row [hyper…, scalars…] to the step in that row: before the kernel reads
  // them, or after the step.
  void (*advance)(double* row);
  bool advances_first;
  std::vector<KernelInfo> variants;  // bit i of the position: optional state i is there

  size_t required() const { return states.size() - optional.size(); }
  // The operand that is the state of rows; those after it are the other factors.
  size_t first_factor() const { return kFirstState + required() - factors.size(); }
  size_t row_size() const { return hyper.size() + scalars.size(); }
};

// A loss of elements (kernels/loss.h). Its options are the `hyper`.
struct LossInfo : KernelInfo {
  std::vector<OptionRange> ranges;  // of the options
  bool has_pos_weight;
  bool has_batch_mean;
};

const std::vector<LossInfo>& losses();
const std::vector<KernelInfo>& activations();             // y = f(x)
const std::vector<KernelInfo>& activation_backwards();    // dx = f'(x)·dy, same order
const std::vector<KernelInfo>& activation_backward_ys();  // the same from y, of those that have it
const std::vector<RuleInfo>& rules();
const KernelInfo& dropout_info();

// Null where nothing in the list has that name.
template <class Info>
const Info* find(const std::vector<Info>& all, std::string_view name) {
  for (const Info& info : all)
    if (name == info.name) return &info;
  return nullptr;
}
template <class Info>
std::string names_of(const std::vector<Info>& all) {
  std::string text;
  for (const Info& info : all) text += (text.empty() ? "" : ", ") + std::string(info.name);
  return text;
}

}  // namespace onepass::bind
