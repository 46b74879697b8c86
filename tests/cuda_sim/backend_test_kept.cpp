// Tables that stay in a workspace from one call to the next, and numbers that kernels read on the
// device.
#include "backend_test.h"
#include "core/kept_table.h"
#include "cusim.h"

namespace backend_test {
namespace {

uint64_t launches() { return std::exchange(cusim::counts.launches, 0); }

// SGD over many small tensors in both computing types, so that two tables share the workspace.
class ManyTensors {
 public:
  explicit ManyTensors(int64_t count) : operands_(size_t(count)) {
    for (int64_t t = 0; t < count; ++t) {
      const DType d = t % 3 == 2 ? DType::f64 : DType::f32;
      const unsigned seed = unsigned(4 * t);
      for (unsigned o = 0; o < 4; ++o) buffers_.emplace_back(d, 3 + t % 3, seed + o);
      operands_[size_t(t)] = {at(t, 0).operand(), at(t, 1).operand()};
      tensors.push_back(tensor_of(3 + t % 3, d, operands_[size_t(t)]));
      tensors.back().parameter = t;
    }
  }
  Buffer& at(int64_t tensor, int operand) { return buffers_[size_t(4 * tensor + operand)]; }
  // Gradients, of which there are three sets.
  void use(int set) {
    for (size_t t = 0; t < operands_.size(); ++t)
      operands_[t][1] = at(int64_t(t), 1 + set).operand();
  }
  void append_to(std::string* bits) {
    for (size_t t = 0; t < operands_.size(); ++t) at(int64_t(t), 0).append_to(bits);
  }
  std::vector<Tensor> tensors;

 private:
  std::vector<Buffer> buffers_;
  std::vector<std::vector<Operand>> operands_;
};

// The same steps with tables that are kept and with those of each call, and their launches.
void kept_tables(std::string* bits) {
  const int64_t count = kBrief ? 120 : 1800;  // too many to come with the launch, of each type
  std::string each[2];
  for (const bool keeps : {false, true}) {
    ManyTensors many(count);
    KeptTable tables[2], of_norm[2];
    std::vector<uint64_t> memory[2];
    for (int step = 0; step < 4; ++step) {
      many.use(step % 3);
      const std::vector<double> hyper{0.5 / (1 + step), 0, 0, 0, 0, 0, 0, 0};
      GlobalNormResult result{};
      GlobalNorm norm = norm_of(many.tensors, &result);
      uint32_t ticket = 0;
      norm.operand = 1;
      norm.ticket = &ticket;
      Elementwise call = call_on(many.tensors, hyper);
      call.rider.norm = &result;
      call.rider.max_norm = 1;
      const int64_t bytes[] = {cuda.elementwise_workspace(call), cuda.global_norm_workspace(norm)};
      if (!keeps) {
        run("global_norm", cuda.global_norm, bytes[1], norm);
        run("update", cuda.update[0][0], bytes[0], call);
        continue;
      }
      void* room[2];
      for (int i = 0; i < 2; ++i) {
        memory[i].resize(size_t(bytes[i]) / 8 + 2);
        const auto at = reinterpret_cast<uintptr_t>(memory[i].data());
        room[i] = reinterpret_cast<void*>((at + 15) / 16 * 16);
      }
      norm.workspace = room[1];
      norm.tables = of_norm;
      call.workspace = room[0];
      call.tables = tables;
      (void)launches();
      cuda.global_norm(norm);
      cuda.update[0][0](call);
      check(!cuda.last_error(), "a step with kept tables fails");
      const uint64_t took = launches();  // two for each computing type
      if (!kBrief) check(step == 0 ? took > 4 : took == 4, "a kept table is written again");
    }
    many.append_to(&each[keeps]);
  }
  check(each[0] == each[1], "a kept table gives other bits");
  *bits += each[1];
}

// Of a call that a graph replays: the rows, the gradients' scale and the largest norm.
void numbers_on_device(std::string* bits) {
  for (const DType d : {DType::f32, DType::f64}) {
    std::string each[2];
    for (const bool there : {false, true}) {
      ManyTensors many(9);
      const std::vector<double> given{9, 9, 9, 9, 9, 9, 9, 9}, wanted{0.25, 0, 0, 0, 0, 0, 0, 0};
      std::vector<double> numbers(9, 0);
      if (there) {
        std::vector<double> now{1};
        now.insert(now.end(), wanted.begin(), wanted.end());
        cuda.write({now.data(), int64_t(now.size() * sizeof(double)), numbers.data(), nullptr});
        check(numbers == now, "numbers are written wrongly");
      }
      Buffer scale(d, 1, 1), limit(d, 1, 1);
      scale.set(0, 4);
      limit.set(0, 0.5);
      GlobalNormResult result{};
      GlobalNorm norm = norm_of(many.tensors, &result);
      norm.operand = 1;
      Elementwise call = call_on(many.tensors, there ? given : wanted);
      call.rider.norm = &result;
      call.rider.max_norm = there ? 1 : 0.5;
      if (there) {
        call.numbers = numbers.data();
        norm.grad_scale = call.rider.grad_scale = {scale.data(), d};
        call.rider.device_max_norm = {limit.data(), d};
      } else {
        norm.unscale = call.rider.unscale = 0.25;
      }
      run("global_norm", cuda.global_norm, cuda.global_norm_workspace(norm), norm);
      run("update", cuda.update[0][0], cuda.elementwise_workspace(call), call);
      many.append_to(&each[there]);
    }
    check(each[0] == each[1], "numbers on the device give other bits");
    *bits += each[1];
  }
}

void taken_numbers() {
  uint64_t count = 7, taken = 0;
  for (uint64_t want = 7; want < 9; ++want) {
    cuda.take_number({&count, &taken, nullptr});
    check(taken == want && count == want + 1, "a number is taken wrongly");
  }
}

// A mask by a seed and an offset that are on the device.
void words_on_device(std::string* bits) {
  const uint64_t seed = 5, offset = 9;
  std::string each[2];
  for (const bool there : {false, true}) {
    Buffer x(DType::f32, 3000, 1), y(DType::f32, 3000, 2);
    const std::vector<Operand> operands{y.operand(), x.operand()};
    const std::vector<Tensor> tensors{tensor_of(3000, DType::f32, operands)};
    Elementwise call = call_on(tensors, kOptions);
    call.random = {there ? 0 : seed, there ? 0 : offset, uint64_t(1) << 31};
    if (there) {
      call.random.seed_at = &seed;
      call.random.offset_at = &offset;
    }
    run("dropout", cuda.dropout, 0, call);
    y.append_to(&each[there]);
  }
  check(each[0] == each[1], "words on the device give another mask");
  *bits += each[1];
}

void recorded() {
  check(!cuda.captures(nullptr), "a graph is captured from the start");
  cusim::start_recording();
  check(cuda.captures(nullptr), "a capture is not seen");
  uint64_t count = 1, taken = 0;
  cuda.take_number({&count, &taken, nullptr});
  const auto graph = cusim::stop_recording();
  check(graph.size() == 1 && taken == 0, "a launch that is captured runs");
  for (uint64_t want = 1; want < 4; ++want) {
    graph[0]();
    check(taken == want, "a replay does not run what was captured");
  }
}

}  // namespace

void kept_part(std::string* bits) {
  kept_tables(bits);
  numbers_on_device(bits);
  taken_numbers();
  words_on_device(bits);
  recorded();
}

}  // namespace backend_test
