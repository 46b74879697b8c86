// mean squares along rows and columns: vectors, a strided matrix, several, one of many tiles.
#include "backend_test.h"
#include "backend_test_updates.h"

namespace backend_test {
namespace {

void factors(Run<Elementwise> factor, DType dtype, std::string* bits) {
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
    tensor.parameter = int64_t(tensors.size());
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
  run("factor", factor, cuda.factor_workspace(call), call);
  for (const Buffer& b : buffers) b.append_to(bits);
  if (!on_device) return;
  std::string before, after;
  for (const Buffer& b : buffers) b.append_to(&before);
  call.rider.skip_nonfinite = true;
  run("factor", factor, cuda.factor_workspace(call), call);
  for (const Buffer& b : buffers) b.append_to(&after);
  check(before == after, "a skipped step changes states of rows");
}

}  // namespace

void factors_part(std::string* bits) {
  for_updates([&](int index, auto variant) {
    if (!cuda.factor[index]) return;
    for (const DType d : dtypes()) factors(cuda.factor[index][variant.on], d, bits);
  });
}

}  // namespace backend_test
