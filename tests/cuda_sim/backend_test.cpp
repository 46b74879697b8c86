// Runs every entry of the CUDA backend in the simulator, small, in three thread orders: meant for
// the sanitizers. Exits with 1 and says why when a call fails, two orders give different bits, or a
// kernel touches what lies around its arrays; values are checked by ../test_cuda_backend.py, save
// what the border does not offer: a norm that stays on the device, and labels out of range.
#define ONEPASS_ISA cuda
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/codes.h"
#include "core/stage_row.h"
#include "cusim.h"
#include "kernels/activation_list.h"
#include "kernels/loss_list.h"
#include "kernels/update_list.h"

extern "C" const onepass::Backend* onepass_cuda_backend();

namespace {

using namespace onepass;

const Backend& cuda = *onepass_cuda_backend();

[[noreturn]] void fail(const std::string& what) {
  std::printf("%s\n", what.c_str());
  std::exit(1);
}
void check(bool fine, const std::string& what) {
  if (!fine) fail(what);
}

// An array of its own heap block, `lead` elements behind an aligned address, so that a sanitizer
// sees the first byte beyond. Values are small, of both signs.
class Buffer {
 public:
  Buffer(DType dtype, int64_t size, unsigned seed, int lead = 0)
      : dtype_(dtype), size_(size), bytes_(size_t((size + lead) * size_of(dtype))) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes_) != 0) fail("no memory");
    data_ = static_cast<char*>(memory) + lead * size_of(dtype);
    for (int64_t i = 0; i < size; ++i) set(i, value(seed * 7919 + unsigned(i)));
  }
  void* data() const { return data_; }
  Operand operand(const int64_t* strides = nullptr) const { return {data_, dtype_, strides}; }
  ChannelVector vector() const { return {data_, dtype_}; }
  void append_to(std::string* all) const { all->append(data_, size_t(size_ * size_of(dtype_))); }
  double get(int64_t i) const {
    if (dtype_ == DType::f64) return reinterpret_cast<const double*>(data_)[i];
    return double(reinterpret_cast<const float*>(data_)[i]);
  }
  void set(int64_t i, double v) {
    switch (dtype_) {
      case DType::f64:
        reinterpret_cast<double*>(data_)[i] = v;
        return;
      case DType::f32:
        reinterpret_cast<float*>(data_)[i] = float(v);
        return;
      case DType::f16:  // of 1/8 to 1 in steps that the format has
        reinterpret_cast<uint16_t*>(data_)[i] = uint16_t(0x3000 + (int(v * 512) & 0x8bff));
        return;
      case DType::bf16: {
        const float f = float(v);
        uint32_t bits;
        std::memcpy(&bits, &f, 4);
        reinterpret_cast<uint16_t*>(data_)[i] = uint16_t(bits >> 16);
      }
    }
  }

 private:
  static double value(unsigned n) {
    n = n * 2654435761u;
    return double((n >> 8) % 4001) / 1000.0 - 2.0;
  }
  DType dtype_;
  int64_t size_;
  size_t bytes_;
  char* data_;  // kept until the program ends
};

template <class C>
void run(const char* name, void (*function)(const C&), int64_t bytes, C call) {
  std::vector<uint64_t> memory(size_t(bytes) / 8 + 2, ~uint64_t(0));
  auto at = reinterpret_cast<uintptr_t>(memory.data());
  call.workspace = reinterpret_cast<void*>((at + 15) / 16 * 16);
  function(call);
  const char* error = cuda.last_error();
  if (error) fail(std::string(name) + ": " + error);
}

// One order and one dtype under ThreadSanitizer, where every simulated thread costs 0.3 ms.
const bool kBrief = std::getenv("ONEPASS_TEST_BRIEF") != nullptr;
std::vector<DType> dtypes() {
  if (kBrief) return {DType::f32};
  return {DType::f32, DType::f64, DType::f16, DType::bf16};
}
const std::vector<double> kOptions = {0.1, 0.9, 0.99, 0.01, 0.1, 3, 2, 3, 2, 3, 3, 3};

// f(update, number of its operands, what measures before it or null) for every variant of every
// rule that was compiled: the tables have null in place of others (updates.cu).
template <class F>
void for_updates(F f) {
  int rule = -1;
  onepass::cuda::for_each_variant(onepass::cuda::Updates{}, [&](auto, auto variant) {
    rule += variant.on == 0;
    if (!cuda.update[rule]) return;
    const Run<Elementwise>* measures = cuda.measure[rule];
    f(cuda.update[rule][variant.on],
      int(Signature<typename decltype(variant)::template Kernel<float>>::arity),
      measures ? measures[variant.on] : nullptr);
  });
}
// The update of a rule without optional states.
auto update_of(const char* rule) {
  int found = -1, index = -1;
  onepass::cuda::for_each_variant(onepass::cuda::Updates{}, [&](auto r, auto variant) {
    index += variant.on == 0;
    if (std::strcmp(decltype(r)::name, rule) == 0) found = index;
  });
  return cuda.update[found][0];
}
const GradientRider kPlain;
DType computing(DType d) { return d == DType::f64 ? DType::f64 : DType::f32; }

Tensor tensor_of(int64_t size, DType d, const std::vector<Operand>& operands,
                 const int64_t* shape = nullptr) {
  Tensor t;
  t.size = size;
  t.shape = shape;
  t.ndim = shape ? 2 : 1;
  t.computing = d;
  t.operands = operands.data();
  return t;
}
Elementwise call_on(const std::vector<Tensor>& tensors, const std::vector<double>& hyper,
                    int64_t rows = 1) {
  Elementwise call;
  call.tensors = tensors.data();
  call.count = int64_t(tensors.size());
  call.hyper = hyper.data();
  call.hyper_rows = rows;
  call.hyper_size = int64_t(hyper.size()) / rows;
  return call;
}
GlobalNorm norm_of(const std::vector<Tensor>& tensors, GlobalNormResult* result) {
  GlobalNorm call;
  call.tensors = tensors.data();
  call.count = int64_t(tensors.size());
  call.result = result;
  return call;
}

// ---- elementwise: tensors of several sizes, one misaligned, one strided

void elementwise(const char* name, void (*function)(const Elementwise&), int arity, DType dtype,
                 std::vector<double> hyper, const GradientRider& rider, std::string* bits,
                 int64_t lists = 1, bool measures = false, int64_t repeat = 1) {
  const int64_t sizes[] = {37, 1061, 5, 60};
  const int64_t shape[] = {6, 10}, strides[] = {1, 6};
  std::vector<std::vector<Operand>> operands;
  std::vector<Buffer> buffers;
  std::vector<Tensor> tensors;
  for (int64_t t = 0; t < 4 * lists; ++t) {
    operands.emplace_back();
    for (int o = 0; o < arity; ++o) {
      const bool state = o > 1 && arity > 3;
      buffers.emplace_back(state ? computing(dtype) : dtype, sizes[t % 4], unsigned(31 * t + o),
                           t % 4 == 0 ? 1 : 0);
      if (o >= 3)  // every state but the first; roots are taken of some
        for (int64_t i = 0; i < sizes[t % 4]; ++i) buffers.back().set(i, 0.25);
      operands.back().push_back(buffers.back().operand(t % 4 == 3 && o == 0 ? strides : nullptr));
    }
  }
  for (int64_t t = 0; t < 4 * lists; ++t) {
    tensors.push_back(tensor_of(sizes[t % 4], computing(dtype), operands[size_t(t)], shape));
    tensors.back().counter = t;
  }
  Elementwise call = call_on(tensors, hyper);
  call.random = {7, 9, uint64_t(1) << 30};
  call.repeat = repeat;
  call.rider = rider;
  std::vector<double> norms(tensors.size() * 2, 2.0);  // of rules that read or write them
  call.norms = norms.data();
  call.norm_count = 2;
  const int64_t bytes = measures ? cuda.measure_workspace(call) : cuda.elementwise_workspace(call);
  run(name, function, bytes, call);
  for (const Buffer& b : buffers) b.append_to(bits);
  bits->append(reinterpret_cast<const char*>(norms.data()), norms.size() * sizeof(double));
}

void all_elementwise(std::string* bits) {
  for (const DType d : dtypes()) {
    for (int k = 0; k < count_of(onepass::cuda::Activations{}); ++k) {
      if (!cuda.activation[k]) continue;
      elementwise("activation", cuda.activation[k], 2, d, kOptions, kPlain, bits);
      elementwise("backward", cuda.activation_backward[k], 3, d, kOptions, kPlain, bits);
      if (cuda.activation_backward_y[k])
        elementwise("backward_y", cuda.activation_backward_y[k], 3, d, kOptions, kPlain, bits);
      const std::vector<double> gate = {double(k), 0.5, 0.75};
      elementwise("glu", cuda.glu, 3, d, gate, kPlain, bits);
      elementwise("glu_backward", cuda.glu_backward, 5, d, gate, kPlain, bits);
    }
    for (const int64_t repeat : {1, 2, 33, 1000}) {
      const auto drop = [&](const char* name, Run<Elementwise> function) {
        elementwise(name, function, 2, d, {}, kPlain, bits, 1, false, repeat);
      };
      drop("dropout", cuda.dropout);
      drop("alpha", cuda.alpha_dropout);
      drop("alpha backward", cuda.alpha_dropout_backward);
    }
  }
}

// Bits and bytes, some behind an unaligned address, of whole warps and parts of them.
void all_masks(std::string* bits) {
  for (const int64_t n : {1, 31, 1021, 1024, 3 * 8192 + 37})
    for (const bool packed : {false, true})
      for (const int lead : {0, 1, 4}) {
        const int64_t bytes = packed ? (n + 7) / 8 : n;
        std::vector<uint8_t> out(size_t(bytes + lead));
        DropoutMask call;
        call.out = out.data() + lead;
        call.elements = n;
        call.random = {7, 9, uint64_t(1) << 30};
        call.packed = packed;
        run("dropout_mask", cuda.dropout_mask, 0, call);
        bits->append(out.begin(), out.end());
      }
}

void all_updates(std::string* bits) {
  GradientRider rider;
  rider.unscale = 0.5;
  rider.max_value = 0.75;
  rider.coefficient = -0.5;
  rider.zero_grad = true;
  for (const DType d : dtypes())
    for_updates([&](auto update, int arity, auto) {
      elementwise("update", update, arity, d, kOptions, rider, bits);
    });
  for (const DType d : dtypes())
    for_updates([&](auto, int arity, auto measure) {
      if (measure) elementwise("measure", measure, arity, d, kOptions, rider, bits, 1, true);
    });
  // Longer tables: in a large launch, and written by kernels.
  elementwise("long list", cuda.update[0][0], 2, DType::f32, kOptions, kPlain, bits, 30);
  elementwise("longer list", cuda.update[0][0], 2, DType::f64, kOptions, kPlain, bits, 30);
}

// ---- mean squares along rows and columns: vectors, a strided matrix, several, one of many tiles

void factors(const char* name, Run<Elementwise> factor, DType dtype, std::string* bits) {
  struct Of {
    int64_t matrices, height, width;
  };
  const Of all[] = {{37, 0, 0}, {1, 6, 10}, {3, 2, 5}, {1061, 0, 0}, {1, kBrief ? 70 : 131, 260}};
  const int64_t shape[] = {6, 10}, strides[] = {1, 6};
  std::vector<Buffer> buffers;
  std::vector<std::vector<Operand>> operands;
  std::vector<Factors> states;
  std::vector<Tensor> tensors;
  for (const Of& of : all) {
    const bool matrices = of.height > 0;
    const int64_t size = of.matrices * (matrices ? of.height * of.width : 1);
    const int64_t rows = matrices ? of.matrices * of.height : size;
    const int64_t columns = matrices ? of.matrices * of.width : size;
    const auto made = [&](DType d, int64_t count) {
      buffers.emplace_back(d, count, unsigned(buffers.size()), matrices ? 0 : 1);
      return buffers.back().operand(size == 60 && count == size ? strides : nullptr);
    };
    operands.push_back({made(dtype, size), made(dtype, size), made(computing(dtype), rows)});
    states.push_back(
        {of.height, of.width, made(computing(dtype), rows), made(computing(dtype), columns)});
    Tensor tensor = tensor_of(size, computing(dtype), {}, shape);
    tensor.counter = int64_t(tensors.size());
    tensors.push_back(tensor);
  }
  for (size_t t = 0; t < tensors.size(); ++t) tensors[t].operands = operands[t].data();
  const std::vector<double> hyper{0.1, -0.5, 1e-3, 0.1, 1, 0, 3};
  double factored[8];
  Elementwise call = call_on(tensors, hyper);
  call.factors = states.data();
  call.factored = factored;
  call.rider.unscale = 0.5;
  call.rider.max_value = 0.75;
  const GlobalNormResult bad{0, 0, 3};
  call.rider.norm = &bad;
  run(name, factor, cuda.factor_workspace(call), call);
  for (const Buffer& b : buffers) b.append_to(bits);
  std::string before, after;
  for (const Buffer& b : buffers) b.append_to(&before);
  call.rider.skip_nonfinite = true;
  run(name, factor, cuda.factor_workspace(call), call);
  for (const Buffer& b : buffers) b.append_to(&after);
  check(before == after, "a skipped step changes states of rows");
}
void all_factors(std::string* bits) {
  int rule = -1;
  onepass::cuda::for_each_variant(onepass::cuda::Updates{}, [&](auto r, auto variant) {
    rule += variant.on == 0;
    for (const DType d : dtypes())
      if (cuda.factor[rule]) factors(decltype(r)::name, cuda.factor[rule][variant.on], d, bits);
  });
}

// ---- updates with every stage around them, and rows with a limit after them

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
    std::vector<double> row(kOptions.begin(), kOptions.begin() + kHyper);
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
    std::vector<double> row(kOptions.begin(), kOptions.begin() + kHyper);
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
void all_staged(std::string* bits) {
  int rule = -1;
  onepass::cuda::for_each_variant(onepass::cuda::Updates{}, [&](auto, auto variant) {
    rule += variant.on == 0;
    if (!cuda.update[rule]) return;
    for (const DType d : dtypes()) {
      using K = typename decltype(variant)::template Kernel<float>;
      staged<K>(cuda.update[rule][variant.on], d, bits);
      coded<K>(cuda.update[rule][variant.on], d, bits);
    }
  });
}

// ---- norm, and an update that reads it where it is

void device_norm(std::string* bits) {
  for (const bool poisoned : {false, true}) {
    const int64_t n = 1500;
    Buffer p(DType::f32, n, 1), g(DType::f32, n, 2), h(DType::f64, n, 3), q(DType::f64, n, 4);
    if (poisoned) h.set(700, std::nan(""));
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += g.get(i) * g.get(i) + h.get(i) * h.get(i);
    const std::vector<Operand> a{p.operand(), g.operand()}, b{q.operand(), h.operand()};
    const std::vector<Tensor> tensors{tensor_of(n, DType::f32, a), tensor_of(n, DType::f64, b)};
    GlobalNormResult result{}, again{};
    GlobalNorm norm = norm_of(tensors, &again);
    norm.operand = 1;
    run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
    uint32_t ticket = 0;
    norm.result = &result;
    norm.ticket = &ticket;
    run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
    check(std::memcmp(&result, &again, sizeof(result)) == 0, "a ticket changes the norm");
    check(ticket == 0, "a norm keeps its ticket");
    check(result.first_nonfinite == (poisoned ? 1 : -1), "first_nonfinite is wrong");
    const double want = std::sqrt(sum);
    check(poisoned || std::fabs(result.norm - want) <= 1e-12 * want, "the norm is wrong");

    const double before = p.get(11), gradient = g.get(11);
    const std::vector<double> hyper{0.5, 0, 0, 0, 0, 0, 0, 0};
    Elementwise step = call_on(tensors, hyper);
    step.rider.zero_grad = true;
    step.rider.norm = &result;
    step.rider.max_norm = 3.0;
    step.rider.skip_nonfinite = true;
    run("update", cuda.update[0][0], cuda.elementwise_workspace(step), step);
    const double moved = poisoned ? 0 : 0.5 * gradient * (3.0 / (want + 1e-6));
    check(std::fabs(p.get(11) - (before - moved)) < 1e-6, "the clipped or skipped step is wrong");
    check(g.get(11) == 0 && h.get(11) == 0, "gradients are not left at zero");
    p.append_to(bits);
    q.append_to(bits);
  }
  for (const NormOrder order : {NormOrder::one, NormOrder::two, NormOrder::inf}) {
    Buffer g(DType::bf16, 2100, 5);
    const std::vector<Operand> a{g.operand()};
    const std::vector<Tensor> tensors{tensor_of(2100, DType::f32, a)};
    GlobalNormResult result{};
    GlobalNorm norm = norm_of(tensors, &result);
    norm.order = order;
    norm.unscale = 0.5;
    norm.max_value = 0.75;
    run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
    bits->append(reinterpret_cast<const char*>(&result), sizeof(result));
  }
}

// Every element is finite, but squares, their sum or the norm itself are not normal doubles.
void norms_beyond_double(std::string* bits) {
  struct Row {
    double value, max_value, norm, clamped, unit, moved;
  };
  const double none = GradientRider::kNoLimit;
  for (const Row& row :
       {Row{1e160, none, 2e160, 2e160, 1, 0.5},
        Row{1.5e308, none, none, 1.5e308 / 0x1p63, 0x1p64, 0.5},
        Row{1e-170, none, 2e-170, 2e-170, 1, 1e-170}, Row{1e200, 1e155, 2e200, 2e155, 1, 0.5},
        Row{1e200, 0.25, 2e200, 0.5, 1, 0.25}, Row{0, none, 0, 0, 1, 0}}) {
    Buffer p(DType::f64, 4, 1), g(DType::f64, 4, 2);
    for (int64_t i = 0; i < 4; ++i) {
      p.set(i, 0);
      g.set(i, row.value);
    }
    const std::vector<Operand> a{p.operand(), g.operand()};
    const std::vector<Tensor> tensors{tensor_of(4, DType::f64, a)};
    GlobalNormResult result{};
    GlobalNorm norm = norm_of(tensors, &result);
    norm.operand = 1;
    norm.max_value = row.max_value;
    run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
    const auto close = [](double x, double want) {
      return x == want || std::fabs(x - want) <= 1e-12 * std::fabs(want);
    };
    check(result.first_nonfinite == -1 && result.unit == row.unit, "a finite norm is called Inf");
    check(close(result.norm, row.norm), "the norm beyond double is wrong");
    check(close(result.clamped_norm, row.clamped), "the clamped norm beyond double is wrong");
    const std::vector<double> hyper{1, 0, 0, 0, 0, 0, 0, 0};
    Elementwise step = call_on(tensors, hyper);
    step.rider.max_value = row.max_value;
    step.rider.norm = &result;
    step.rider.max_norm = 1;
    step.rider.skip_nonfinite = true;
    run("update", cuda.update[0][0], cuda.elementwise_workspace(step), step);
    check(close(p.get(0), -row.moved), "the step clipped from beyond double is wrong");
    p.append_to(bits);
  }
}

// ---- steps counted on the device

// A rule with two states, on six tensors in both computing types, two of which share a counter and
// one of which is empty; with rows that know the step and the scalars (counted false), or from
// counts on the device.
struct Counted {
  const char* rule;
  std::vector<double> hyper;  // without the step
  double start = 0;           // of its one scalar; 0: it has none
  void (*advance)(double* row) = nullptr;
};
const Counted kAdamW{"adamw", {0.1, 0.9, 0.99, 1e-8, 0.01, 1, 0, 1, 0, 1, 0}};
const Counted kNAdam{"nadam", {0.1, 0.9, 0.99, 1e-8, 0.01, 0.3, 0, 1}, 1, [](double* row) {
                       onepass::cuda::advance<onepass::cuda::NAdam>(row);
                     }};

void counted_steps(const Counted& rule, bool counted, bool skips, std::string* bits,
                   bool zeroes = true) {
  const int64_t sizes[] = {1500, 40, 0, 2100, 33, 1025}, counters[] = {4, 1, 0, 1, 3, 2};
  const int64_t taken[] = {6, 2, 9, 0, 41};
  double scalars[5];
  for (int i = 0; i < 5; ++i) scalars[i] = rule.start - 0.125 * i;
  std::vector<Buffer> buffers;
  std::vector<std::vector<Operand>> operands(6);
  std::vector<Tensor> tensors;
  std::vector<double> hyper, advanced(5);
  for (int64_t t = 0; t < 6; ++t) {
    const DType d = t == 3 || t == 4 ? DType::f64 : DType::f32;
    for (int o = 0; o < 4; ++o) {
      buffers.emplace_back(d, sizes[t], unsigned(40 + 4 * t + o));
      for (int64_t i = 0; o == 3 && i < sizes[t]; ++i) buffers.back().set(i, 0.25);
      operands[size_t(t)].push_back(buffers.back().operand());
    }
    tensors.push_back(tensor_of(sizes[t], d, operands[size_t(t)]));
    tensors.back().hyper_set = int32_t(counted ? t % 2 : t);
    tensors.back().counter = counters[t];
    std::vector<double> row = rule.hyper;
    if (t % 2 == 0) row[0] = 0.2;
    row.push_back(double(taken[counters[t]] + 1));
    if (rule.advance) {
      row.push_back(scalars[counters[t]]);
      rule.advance(row.data());
      advanced[size_t(counters[t])] = row.back();
    }
    if (counted)  // what the device puts in itself
      for (size_t i = rule.hyper.size(); i < row.size(); ++i) row[i] = 0;
    hyper.insert(hyper.end(), row.begin(), row.end());
  }
  int64_t steps[] = {6, 2, 9, 0, 41};
  double before[5];
  std::memcpy(before, scalars, sizeof(scalars));
  uint32_t ticket = 0;
  const GlobalNormResult bad{0, 0, 3};
  Elementwise call = call_on(tensors, hyper, 6);
  call.rider.zero_grad = zeroes;
  call.rider.norm = skips ? &bad : nullptr;
  call.rider.skip_nonfinite = call.rider.zero_skipped = skips;
  if (counted) {
    call.rider.steps = steps;
    call.rider.scalars = rule.advance ? scalars : nullptr;
    call.rider.ticket = &ticket;
  }
  run(rule.rule, update_of(rule.rule), cuda.elementwise_workspace(call), call);
  const bool advances = counted && !skips;
  for (int i = 0; i < 5; ++i) {
    check(steps[i] == taken[i] + advances, "steps are counted wrongly");
    const double wanted = advances && rule.advance ? advanced[size_t(i)] : before[i];
    check(scalars[i] == wanted, "scalars advance wrongly");
  }
  check(ticket == 0, "an update keeps its ticket");
  for (size_t b = 0; b < buffers.size(); ++b) {
    if (skips && b % 4 != 1) {  // of a skipped step, only the gradients
      const Buffer fresh(sizes[b / 4] == 2100 || sizes[b / 4] == 33 ? DType::f64 : DType::f32,
                         sizes[b / 4], unsigned(40 + b));
      for (int64_t i = 0; b % 4 != 3 && i < sizes[b / 4]; ++i)
        check(buffers[b].get(i) == fresh.get(i), "a skipped step changes something");
    }
    buffers[b].append_to(bits);
  }
}

void all_counted_steps(std::string* bits) {
  for (const Counted& rule : {kAdamW, kNAdam}) {
    std::string plain, here;
    counted_steps(rule, false, false, &plain);
    counted_steps(rule, true, false, &here);
    check(here == plain, "steps from the device give other bits");
    *bits += here;
    counted_steps(rule, true, true, bits);
    counted_steps(rule, true, true, bits, false);
  }
  // Nothing but empty tensors: the step counts all the same.
  int64_t steps[] = {7, 7};
  uint32_t ticket = 0;
  std::vector<Tensor> tensors{tensor_of(0, DType::f64, {})};
  tensors[0].counter = 1;
  const std::vector<double> hyper{0.1, 0, 0, 0, 0, 0, 0, 0};
  Elementwise call = call_on(tensors, hyper);
  call.rider.steps = steps;
  call.rider.ticket = &ticket;
  run("sgd", cuda.update[0][0], cuda.elementwise_workspace(call), call);
  check(steps[0] == 7 && steps[1] == 8, "empty tensors do not count");
  // Of nothing, the norm is 0.
  GlobalNormResult result{1, 1, 1};
  GlobalNorm norm = norm_of(tensors, &result);
  norm.max_value = 2;
  norm.ticket = &ticket;
  run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
  check(result.norm == 0 && result.first_nonfinite == -1, "the norm of nothing is wrong");
  // A counter needs its ticket, and the scalars of a rule that has some.
  Elementwise wrong = call;
  wrong.rider.ticket = nullptr;
  cuda.update[0][0](wrong);
  check(cuda.last_error() != nullptr && cuda.last_error() == nullptr, "no ticket, no error");
  wrong = call;
  update_of("nadam")(wrong);
  check(cuda.last_error() != nullptr && cuda.last_error() == nullptr, "no scalars, no error");
}

// ---- devices

void devices(std::string*) {
  check(cuda.use_device(1) == 0 && cuda.use_device(0) == 1, "use_device does not say what was");
  check(cuda.use_device(7) == -1 && cuda.last_error() != nullptr, "device 7 exists");
  uint32_t* word = cuda.host_word(1);
  check(word && *word == 0 && word == cuda.host_word(1), "a host word is made anew");
  check(cuda.host_word(0) != word, "devices share a host word");
  check(cuda.use_device(0) == 0, "host_word leaves another device");
  check(!cuda.host_word(-1) && cuda.last_error() != nullptr, "device -1 has a word");
}

// ---- along channels: planes and columns, whole and split, aligned and not

struct Shape {
  int64_t outer, channels, inner;
  int lead;
};

void channelwise(const Shape& s, DType d, bool drops, int32_t activation, bool evaluates,
                 std::string* bits) {
  const int64_t n = s.outer * s.channels * s.inner;
  const DType c = computing(d);
  Buffer x(d, n, 1, s.lead), y(d, n, 2, s.lead), r(d, n, 3, s.lead), dy(d, n, 4, s.lead);
  Buffer dx(d, n, 5, s.lead), dr(d, n, 6, s.lead), saved(c, 3 * s.channels, 7);
  Buffer w(c, s.channels, 8), b(c, s.channels, 9), mean(c, s.channels, 10), var(c, s.channels, 11);
  Buffer dw(c, s.channels, 12), db(c, s.channels, 13);
  for (int64_t i = 0; i < s.channels; ++i) var.set(i, 1.5);
  ChannelNorm call{};
  call.outer = s.outer;
  call.channels = s.channels;
  call.inner = s.inner;
  call.dtype = d;
  call.x = x.data();
  call.weight = w.vector();
  call.bias = b.vector();
  call.epilogue = {drops ? r.data() : nullptr,
                   activation,
                   kOptions.data(),
                   {3, 4, drops ? uint64_t(1) << 31 | 12345 : 0}};
  call.y = y.data();
  call.running_mean = mean.vector();
  call.running_var = var.vector();
  call.batch_statistics = !evaluates;
  call.momentum = 0.1;
  call.eps = 1e-5;
  call.saved = saved.data();
  run("batch_norm", cuda.channel_norm[0], cuda.channelwise_workspace(call), call);
  call.dy = dy.data();
  call.dx = dx.data();
  call.dresidual = drops ? dr.data() : nullptr;
  call.dweight = dw.vector();
  call.dbias = db.vector();
  run("batch_norm_backward", cuda.channel_norm_backward[0], cuda.channelwise_workspace(call), call);
  for (const Buffer* each : {&y, &saved, &mean, &var, &dx, &dr, &dw, &db}) each->append_to(bits);

  Channelwise bias = call;
  bias.epilogue.residual = nullptr;
  bias.dresidual = nullptr;
  bias.dweight = {};
  run("bias_act", cuda.bias_act, cuda.channelwise_workspace(bias), bias);
  run("bias_act_backward", cuda.bias_act_backward, cuda.channelwise_workspace(bias), bias);
  for (const Buffer* each : {&y, &dx, &db}) each->append_to(bits);
}

// Values and gradients at the top of the range: channels whose x and g are scaled, in one kernel
// and in three.
void extreme_channels(std::string* bits) {
  for (const DType d : {DType::f32, DType::f64})
    for (const int64_t outer : {20, 8200})
      for (const bool residual : {false, true}) {
        const int64_t n = outer * 2;
        const double top = d == DType::f32 ? 3e38 : 1.5e308;
        Buffer x(d, n, 1), y(d, n, 2), r(d, n, 3), dy(d, n, 4), dx(d, n, 5), dr(d, n, 6);
        Buffer saved(d, 6, 7), var(d, 2, 8), dw(d, 2, 9), db(d, 2, 10);
        for (int64_t i = 0; i < n; ++i) {
          x.set(i, i % 4 < 2 ? top : -top);
          dy.set(i, i % 3 == 0 ? top : -top);
        }
        ChannelNorm call{};
        call.outer = outer;
        call.channels = 2;
        call.inner = 1;
        call.dtype = d;
        call.x = x.data();
        call.epilogue.residual = residual ? r.data() : nullptr;
        call.epilogue.activation = Epilogue::kRelu;
        call.epilogue.options = kOptions.data();
        call.y = y.data();
        call.running_var = var.vector();
        call.batch_statistics = true;
        call.momentum = 0.1;
        call.eps = 1e-5;
        call.saved = saved.data();
        run("batch_norm", cuda.channel_norm[0], cuda.channelwise_workspace(call), call);
        call.dy = dy.data();
        call.dx = dx.data();
        call.dresidual = residual ? dr.data() : nullptr;
        call.dweight = dw.vector();
        call.dbias = db.vector();
        run("batch_norm_backward", cuda.channel_norm_backward[0], cuda.channelwise_workspace(call),
            call);
        for (const Buffer* each : {&y, &saved, &var, &dx, &dr, &dw, &db}) each->append_to(bits);
      }
}

// Per-channel values of 16 bits, and a batch without an element: gradients of 0, saved values.
void unusual_channels(std::string* bits) {
  for (const DType d : {DType::f16, DType::bf16})
    for (const int64_t outer : {0, 40}) {
      Buffer x(d, 40 * 6, 1), y(d, 40 * 6, 2), dx(d, 40 * 6, 3), saved(DType::f32, 18, 4);
      Buffer w(d, 6, 5), b(d, 6, 6), mean(d, 6, 7), var(d, 6, 8), dw(d, 6, 9), db(d, 6, 10);
      ChannelNorm call{};
      call.outer = outer;
      call.channels = 6;
      call.inner = 1;
      call.dtype = d;
      call.x = x.data();
      call.weight = w.vector();
      call.bias = b.vector();
      call.epilogue = {nullptr, 0, kOptions.data(), {0, 0, 0}};
      call.y = y.data();
      call.running_mean = mean.vector();
      call.running_var = var.vector();
      call.batch_statistics = outer > 0;
      call.momentum = 0.1;
      call.eps = 1e-5;
      call.saved = saved.data();
      run("batch_norm", cuda.channel_norm[0], cuda.channelwise_workspace(call), call);
      call.dy = y.data();
      call.dx = dx.data();
      call.dweight = dw.vector();
      call.dbias = db.vector();
      run("batch_norm_backward", cuda.channel_norm_backward[0], cuda.channelwise_workspace(call),
          call);
      for (int64_t i = 0; outer == 0 && i < 6; ++i) {
        check(static_cast<uint16_t*>(dw.data())[i] == 0, "an empty batch has a weight gradient");
        check(static_cast<uint16_t*>(db.data())[i] == 0, "an empty batch has a bias gradient");
      }
      for (const Buffer* each : {&saved, &mean, &var, &dw, &db}) each->append_to(bits);
      if (outer > 0) y.append_to(bits);
    }
}

// Activations that the norms' kernels hold (cuda/epilogue.cuh).
#ifdef ONEPASS_SIM_FEW
constexpr int kHeld = 3;
#else
constexpr int kHeld = 7;
#endif

void all_channelwise(std::string* bits) {
  extreme_channels(bits);
  unusual_channels(bits);
  const Shape shapes[] = {{3, 2, 20, 0},   {2, 2, 7, 1},    {40, 6, 1, 0},   {9, 131, 1, 0},
                          {2, 1, 9000, 0}, {2, 2, 8301, 1}, {4301, 4, 1, 0}, {2801, 3, 1, 1}};
  int turn = 0;
  for (const Shape& s : shapes)
    for (const DType d : dtypes()) {
      ++turn;
      channelwise(s, d, turn % 2 == 0, turn % kHeld, turn % 5 == 0, bits);
    }
}

// ---- norms within rows: held by a few threads and by a block, walked over by a warp, by a block
// and by many

struct RowShape {
  int64_t outer, groups, channels, inner;
  int lead;
};

void row_norm(const RowShape& s, DType d, int rule, bool drops, int32_t activation,
              std::string* bits) {
  const int64_t rows = s.outer * s.groups, n = rows * s.channels * s.inner;
  const int64_t channels = s.groups * s.channels;
  const DType c = computing(d);
  Buffer x(d, n, 1, s.lead), y(d, n, 2, s.lead), r(d, n, 3, s.lead), dy(d, n, 4, s.lead);
  Buffer dx(d, n, 5, s.lead), dr(d, n, 6, s.lead), saved(c, 3 * rows, 7);
  Buffer w(drops ? d : c, channels, 8), b(c, channels, 9), dw(c, channels, 10), db(c, channels, 11);
  Buffer mean(c, s.groups, 12), var(c, s.groups, 13);
  RowNorm call{};
  call.outer = s.outer;
  call.groups = s.groups;
  call.channels = s.channels;
  call.inner = s.inner;
  call.dtype = d;
  call.x = x.data();
  call.weight = w.vector();
  call.bias = b.vector();
  call.epilogue = {drops ? r.data() : nullptr,
                   activation,
                   kOptions.data(),
                   {3, 4, drops ? uint64_t(1) << 31 | 12345 : 0}};
  call.y = y.data();
  if (rule == 0) {
    call.running_mean = mean.vector();
    call.running_var = var.vector();
  }
  call.momentum = 0.1;
  call.eps = 1e-5;
  call.saved = saved.data();
  run("row_norm", cuda.row_norm[rule], cuda.row_norm_workspace(call), call);
  call.dy = dy.data();
  call.dx = dx.data();
  call.dresidual = drops ? dr.data() : nullptr;
  call.dweight = dw.vector();
  call.dbias = db.vector();
  run("row_norm_backward", cuda.row_norm_backward[rule], cuda.row_norm_workspace(call), call);
  for (const Buffer* each : {&y, &saved, &mean, &var, &dx, &dr, &dw, &db}) each->append_to(bits);
  call.dx = x.data();  // and no gradient of the weights
  call.dweight = call.dbias = {};
  run("row_norm_backward", cuda.row_norm_backward[rule], cuda.row_norm_workspace(call), call);
  x.append_to(bits);
}

// Rows at the top of the range: x and g are scaled, sums taken again.
void extreme_rows(std::string* bits) {
  for (const DType d : {DType::f32, DType::f64})
    for (const int64_t length : {20, 300, 4200}) {
      const double top = d == DType::f32 ? 3e38 : 1.5e308;
      const int64_t n = 2 * length;
      Buffer x(d, n, 1), y(d, n, 2), dy(d, n, 3), dx(d, n, 4), saved(d, 6, 5);
      for (int64_t i = 0; i < n; ++i) {
        x.set(i, i % 4 < 2 ? top : -top);
        dy.set(i, i % 3 == 0 ? top : -top);
      }
      RowNorm call{};
      call.outer = 2;
      call.channels = length;
      call.inner = 1;
      call.dtype = d;
      call.x = x.data();
      call.epilogue = {nullptr, Epilogue::kRelu, kOptions.data(), {0, 0, 0}};
      call.y = y.data();
      call.eps = 1e-5;
      call.saved = saved.data();
      run("row_norm", cuda.row_norm[0], cuda.row_norm_workspace(call), call);
      for (int64_t i = 0; i < n; ++i)
        check(std::isfinite(y.get(i)), "a row at the top is not finite");
      call.dy = dy.data();
      call.dx = dx.data();
      run("row_norm_backward", cuda.row_norm_backward[0], cuda.row_norm_workspace(call), call);
      for (int64_t i = 0; i < n; ++i)
        check(std::isfinite(dx.get(i)), "a gradient at the top is not");
      for (const Buffer* each : {&y, &saved, &dx}) each->append_to(bits);
    }
}

void all_row_norms(std::string* bits) {
  if (!kBrief) extreme_rows(bits);
  const RowShape shapes[] = {{5, 1, 33, 1, 0},   {70, 1, 64, 1, 0},   {3, 1, 520, 1, 1},
                             {2, 1, 4104, 1, 0}, {1, 2, 17000, 1, 0}, {2, 2, 3, 8, 0},
                             {2, 2, 5, 7, 1},    {1, 2, 2, 1040, 0},  {1, 1, 2, 9000, 0},
                             {1, 5, 1, 64, 0}};
  int turn = 0;
  for (const RowShape& s : shapes)
    for (const DType d : dtypes()) {
      ++turn;
      if (kBrief && s.channels * s.inner > 600) continue;  // minutes under ThreadSanitizer
      row_norm(s, d, turn % 3, turn % 2 == 0, turn % kHeld, bits);
    }
}

// ---- rows

void rows(int64_t outer, int64_t classes, int64_t inner, DType d, int kind, std::string* bits) {
  const int64_t n = outer * classes * inner, positions = outer * inner;
  Buffer x(d, n, 1, kind % 2), dx(d, n, 2, kind % 2), t(d, n, 3), w(computing(d), classes, 4);
  Buffer losses(d, positions, 5);
  std::vector<int64_t> labels;
  for (int64_t p = 0; p < positions; ++p) labels.push_back(p % classes);
  labels[0] = -100;
  uint32_t bad = 0;
  if (kind == 2) labels.back() = classes;
  double loss = 0;
  CrossEntropy call{};
  call.outer = outer;
  call.classes = classes;
  call.inner = inner;
  call.dtype = d;
  call.logits = x.data();
  call.dlogits = kind == 0 ? x.data() : dx.data();
  if (kind == 3) {
    call.probabilities = t.data();
  } else {
    call.labels = labels.data();
  }
  call.weight = kind > 0 ? w.vector() : ChannelVector{};
  call.label_smoothing = kind > 1 ? 0.1 : 0;
  call.ignore_index = -100;
  call.reduction = kind == 1 ? Reduction::none : kind == 2 ? Reduction::sum : Reduction::mean;
  if (kind != 1) call.loss = {&loss, DType::f64};
  call.losses = kind == 1 ? losses.data() : nullptr;
  call.bad_label = &bad;
  run("cross_entropy", cuda.cross_entropy, cuda.cross_entropy_workspace(call), call);
  check(bad == (kind == 2 ? 1u : 0u), "bad_label is wrong");
  if (kind == 2 && d == DType::f32) {
    const int64_t o = outer - 1, i = inner - 1;
    for (int64_t c = 0; c < classes; ++c)
      check(dx.get((o * classes + c) * inner + i) == 0, "a bad label leaves a gradient");
    check(std::isnan(loss), "a bad label leaves a loss");
  }
  for (const Buffer* each : {&x, &dx, &losses}) each->append_to(bits);
  bits->append(reinterpret_cast<const char*>(&loss), sizeof(loss));
}

// Losses of rows without smoothing.
void row_losses(int64_t outer, int64_t classes, int64_t inner, DType d, std::string* bits) {
  const int64_t n = outer * classes * inner, positions = outer * inner;
  Buffer x(d, n, 1), t(d, n, 2), dx(d, n, 3), losses(d, positions, 4);
  std::vector<int64_t> labels;
  for (int64_t p = 0; p < positions; ++p) labels.push_back(p % classes);
  labels[0] = -100;
  for (const Reduction reduction : {Reduction::none, Reduction::mean}) {
    double loss = 0;
    CrossEntropy call{};
    call.outer = outer;
    call.classes = classes;
    call.inner = inner;
    call.dtype = d;
    call.logits = x.data();
    call.dlogits = dx.data();
    call.reduction = reduction;
    call.ignore_index = -100;
    if (reduction == Reduction::none) {
      call.losses = losses.data();
    } else {
      call.loss = {&loss, DType::f64};
    }
    const int64_t bytes = cuda.cross_entropy_workspace(call);
    call.labels = labels.data();
    run("nll_loss", cuda.nll_loss, bytes, call);
    dx.append_to(bits);
    call.labels = nullptr;
    call.probabilities = t.data();
    if (inner == 1) run("wasserstein_1d", cuda.wasserstein_1d, bytes, call);
    for (const Buffer* each : {&dx, &losses}) each->append_to(bits);
    bits->append(reinterpret_cast<const char*>(&loss), sizeof(loss));
  }
}

// One loss of elements: dense, from an odd address, or with a pos_weight for each column.
void pointwise(int index, int64_t rows, int64_t columns, DType d, int kind, std::string* bits) {
  const int64_t n = rows * columns;
  Buffer x(d, n, 1, kind == 1), t(d, n, 2), dx(d, n, 3), w(computing(d), columns, 4);
  Buffer losses(d, n, 5);
  const int64_t shape[] = {rows, columns}, column[] = {0, 1};
  Operand operands[kLossOperands];
  operands[kLossGradient] = kind == 2 ? x.operand() : dx.operand();
  operands[kLossInput] = x.operand();
  operands[kLossTarget] = t.operand();
  if (kind == 2) operands[kLossPosWeight] = w.operand(column);
  if (kind == 1) operands[kLosses] = losses.operand();
  double loss = 0;
  PointwiseLoss call;
  call.tensor.size = n;
  call.tensor.shape = shape;
  call.tensor.ndim = 2;
  call.tensor.computing = computing(d);
  call.tensor.operands = operands;
  call.hyper = kOptions.data();
  call.divisor = kind == 0 ? double(n) : 1;
  if (kind != 1) call.loss = {&loss, DType::f64};
  run("pointwise_loss", cuda.pointwise_loss[index], cuda.pointwise_loss_workspace(call), call);
  for (const Buffer* each : {&x, &dx, &losses}) each->append_to(bits);
  bits->append(reinterpret_cast<const char*>(&loss), sizeof(loss));
}

void all_pointwise(std::string* bits) {
  for (const DType d : dtypes())
    for (int index = 0; index < onepass::cuda::count_of(onepass::cuda::Losses{}); ++index)
      for (int kind = 0; kind < 3; ++kind) {
        pointwise(index, 3, 11, d, kind, bits);
        if (!kBrief) pointwise(index, 7, 515, d, kind, bits);
      }
}

// softmax and log-softmax, in place or not, and maxout; forward, then backward.
void row_calls(int64_t outer, int64_t classes, int64_t inner, DType d, bool in_place,
               std::string* bits) {
  const int64_t n = outer * classes * inner;
  Buffer x(d, n, 1, in_place), y(d, n, 2, in_place), dy(d, n, 3, in_place);
  RowCall call;
  call.outer = outer;
  call.classes = classes;
  call.inner = inner;
  call.dtype = d;
  call.logarithm = in_place;
  call.x = x.data();
  call.out = in_place ? x.data() : y.data();
  run("softmax", cuda.softmax, 0, call);
  call.x = call.out;
  call.dy = dy.data();
  call.out = in_place ? dy.data() : x.data();
  run("softmax_backward", cuda.softmax_backward, 0, call);
  call.dy = nullptr;
  call.x = y.data();
  call.out = dy.data();
  run("maxout", cuda.maxout, 0, call);
  call.dy = dy.data();
  call.out = in_place ? y.data() : x.data();
  run("maxout_backward", cuda.maxout_backward, 0, call);
  for (const Buffer* each : {&x, &y, &dy}) each->append_to(bits);
}

void all_rows(std::string* bits) {
  for (const DType d : dtypes()) {
    row_losses(5, 33, 1, d, bits);
    row_losses(2, 5, 7, d, bits);
  }
  for (const DType d : dtypes())
    for (const bool in_place : {false, true}) {
      row_calls(5, 33, 1, d, in_place, bits);
      row_calls(3, 1029, 1, d, in_place, bits);
      row_calls(2, 5, 7, d, in_place, bits);
    }
  for (const int64_t classes : {701, 9001, 17003})  // of a warp, of a block, and read twice
    if (!kBrief || classes == 701) row_calls(2, classes, 1, DType::f32, classes == 9001, bits);
  if (!kBrief) row_calls(2, 9004, 1, DType::bf16, false, bits);
  if (!kBrief) row_calls(2, 70004, 1, DType::f32, false, bits);
  for (const DType d : dtypes())
    for (int kind = 0; kind < 4; ++kind) {
      rows(5, 33, 1, d, kind, bits);
      rows(3, 1029, 1, d, kind, bits);
      rows(2, 5, 7, d, kind, bits);
    }
}

}  // namespace

int main() {
  const std::pair<const char*, std::function<void(std::string*)>> parts[] = {
      {"elementwise", all_elementwise},
      {"masks", all_masks},
      {"updates", all_updates},
      {"staged", all_staged},
      {"device_norm", device_norm},
      {"norms_beyond_double", norms_beyond_double},
      {"factors", all_factors},
      {"counted_steps", all_counted_steps},
      {"devices", devices},
      {"channelwise", all_channelwise},
      {"row_norms", all_row_norms},
      {"rows", all_rows},
      {"pointwise", all_pointwise}};
  const cusim::Options orders[] = {{cusim::Order::kForward, 0, 2},
                                   {cusim::Order::kReverse, 0, 1},
                                   {cusim::Order::kRandom, 5, 3}};
  for (const auto& [name, part] : parts) {
    std::string first;
    for (const cusim::Options& order : orders) {
      cusim::set_options(order);
      std::string bits;
      part(&bits);
      if (kBrief) break;
      if (first.empty()) first = bits;
      check(bits == first, std::string(name) + ": orders differ");
    }
  }
  std::printf("fine\n");
}
