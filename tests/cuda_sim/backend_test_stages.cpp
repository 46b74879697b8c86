// updates with every stage around them, and rows with a limit after them; states of 8 bits.
#include "backend_test.h"
#include "backend_test_updates.h"
#include "core/codes.h"
#include "core/stage_row.h"

namespace backend_test {
namespace {

template <class K>
void staged(Run<Elementwise> update, DType dtype, std::string* bits) {
  constexpr int kOwn = int(Signature<K>::arity), kHyper = int(K::hyper.size);
  const int64_t shape[] = {6, 11}, strides[] = {1, 6}, size = 66;
  const bool narrow = dtype == DType::f16 || dtype == DType::bf16;
  std::vector<Buffer> buffers;
  std::vector<Operand> operands;
  for (int o = 0; o < kOwn + 2; ++o) {
    const bool as_it_is = o < 2 || (narrow && o == 2);  // such a state is rounded at random
    buffers.emplace_back(as_it_is ? dtype : computing(dtype), size, unsigned(31 * o), 0);
    for (int64_t i = 0; i < size && o >= 3 && o < kOwn; ++i) buffers.back().set(i, 0.25);
    operands.push_back(buffers.back().operand(o == 0 ? strides : nullptr));
  }
  for (const bool with_master : {false, true}) {
    if (!with_master) operands.back() = {};
    if (with_master && !narrow) break;
    if (with_master) operands.back() = buffers.back().operand(nullptr);
    std::vector<Tensor> tensors{tensor_of(size, computing(dtype), operands, shape)};
    tensors[0].rows = 6;
    std::vector<double> row = options_of(kHyper);
    double stages[kStageValues] = {};
    stages[kNoise] = 0.1;
    stages[kCautious] = 1;
    stages[kThreshold] = 0.01;
    stages[kAverageGain] = 0.25;
    stages[kStochastic] = narrow && !with_master;
    stages[kMaxRowNorm] = 0.5;
    stages[kDither] = 1;
    stages[kStageStep] = 3;
    row.insert(row.end(), stages, stages + kStageValues);
    Elementwise call = call_on(tensors, row);
    call.stages.active = call.stages.in_order = call.stages.has_limit = true;
    call.stages.first = kOwn;
    call.stages.seed = 5;
    std::vector<double> norms(2, 2.0);
    call.norms = norms.data();
    call.norm_count = 2;
    run("staged", update, cuda.elementwise_workspace(call), call);
    run("limit_rows", cuda.limit_rows, 0, call);
  }
  for (const Buffer& b : buffers) b.append_to(bits);
}
// Updates whose states are codes of 8 bits: a whole block of them and a part of one.
template <class K>
void coded(Run<Elementwise> update, DType dtype, std::string* bits) {
  constexpr int kOwn = int(Signature<K>::arity), kHyper = int(K::hyper.size);
  if (kOwn == 2 || dtype == DType::f64) return;
  const int64_t shape[] = {6, 51}, permuted[] = {1, 6}, size = 306;
  for (const int64_t* strides : {static_cast<const int64_t*>(nullptr), permuted}) {
    Buffer param(dtype, size, 1), grad(dtype, size, 2);
    std::vector<Operand> operands{param.operand(strides), grad.operand()};
    std::vector<std::vector<float>> states;
    for (int o = 2; o < kOwn; ++o) {
      states.emplace_back(size_t(onepass::coded_bytes(size)) / sizeof(float), 0.5f);
      std::memset(states.back().data(), 40 + o, size_t(onepass::scales_at(size)));
      const DType kind = o % 2 ? onepass::kUnsignedCodes : onepass::kSignedCodes;
      operands.push_back({states.back().data(), kind, nullptr});
    }
    operands.resize(kOwn + 2);
    std::vector<Tensor> tensors{tensor_of(size, DType::f32, operands, shape)};
    std::vector<double> row = options_of(kHyper);
    double stages[kStageValues] = {};
    stages[kNoise] = 0.1;
    stages[kDither] = 1;
    stages[kStageStep] = 3;
    row.insert(row.end(), stages, stages + kStageValues);
    Elementwise call = call_on(tensors, row);
    call.stages.active = call.stages.in_order = true;
    call.stages.first = kOwn;
    call.stages.seed = 5;
    std::vector<double> norms(2, 2.0);
    call.norms = norms.data();
    call.norm_count = 2;
    run("coded", update, cuda.elementwise_workspace(call), call);
    param.append_to(bits);
    for (const auto& s : states)
      bits->append(reinterpret_cast<const char*>(s.data()), s.size() * sizeof(float));
  }
}

}  // namespace

void stages_part(std::string* bits) {
  for_updates([&](int index, auto variant) {
    using K = KernelOf<decltype(variant)>;
    for (const DType d : dtypes()) {
      staged<K>(cuda.update[index][variant.on], d, bits);
      coded<K>(cuda.update[index][variant.on], d, bits);
    }
  });
}

}  // namespace backend_test
