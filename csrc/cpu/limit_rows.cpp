// The pass that scales rows of parameters back to their largest norm, after the update and before
// the average: a row is known as a whole only then. Elements lie in C order.
#include "cpu/parallel.h"
#include "cpu/stages.h"
#include "cpu/unit.h"
#include "kernels/row_limit.h"

ONEPASS_BEGIN
namespace {

template <int kMeasure, class T>
double squared(T v) {
  if constexpr (kMeasure == 0)
    return double(v) * double(v);
  else
    return square<kMeasure>(v);
}
template <int kMeasure, class T>
[[gnu::noinline]] void square_run(int64_t n, const T* p, double* lanes) {
  int64_t i = 0;
  for (; i + kRowLanes <= n; i += kRowLanes) {
#pragma GCC ivdep
    for (int l = 0; l < kRowLanes; ++l) lanes[l] += squared<kMeasure>(p[i + l]);
  }
  for (int l = 0; i + l < n; ++l) lanes[l] += squared<kMeasure>(p[i + l]);
}
template <class T>
[[gnu::noinline]] void limit_run(const T factor, int64_t n, T* p) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) p[i] = limited(p[i], factor);
}

struct LimitJob {
  const Elementwise& call;
  const Tensor& tensor;
  int64_t rows_of_task;

  const double* values() const {
    return call.hyper + tensor.hyper_set * call.hyper_size + call.hyper_size - kStageValues;
  }
  double limit() const { return values()[kMaxRowNorm]; }
  StepStream random() const {
    return {call.stages.seed, uint32_t(tensor.parameter), uint32_t(uint64_t(values()[kStageStep]))};
  }

  template <int kMeasure, class T>
  double squares(const Operand& value, int64_t begin, int64_t size, T* scratch) const {
    double lanes[kRowLanes] = {};
    for (int64_t done = 0, n; done < size; done += n) {
      n = size - done < kBlockElements ? size - done : kBlockElements;
      load_block(tensor, value, begin + done, n, scratch);
      square_run<kMeasure>(n, scratch, lanes);
    }
    for (int width = 1; width < kRowLanes; width *= 2)
      for (int l = 0; l < kRowLanes; l += 2 * width) lanes[l] += lanes[l + width];
    return lanes[0];
  }
  template <class T>
  RowFactor<T> factor(const Operand& value, int64_t begin, int64_t size, T* scratch) const {
    double sum = squares<0>(value, begin, size, scratch);
    const int measure = row_measure<T>(sum);
    if constexpr (kMeasures<T> > 1) {
      if (measure == 1) sum = squares<1>(value, begin, size, scratch);
      if (measure == 2) sum = squares<2>(value, begin, size, scratch);
    }
    return row_factor<T>(limit(), sum, measure);
  }
  template <class T>
  void row(int64_t begin, int64_t size) const {
    const Operand* stages = tensor.operands + call.stages.first;
    const Operand& param = tensor.operands[0];
    const Operand& master = stages[kMaster];
    const Operand& average = stages[kAverage];
    const Operand& value = master.data ? master : param;
    const bool at_random = values()[kStochastic] != 0 && size_of(param.dtype) == 2;
    alignas(64) T scratch[kBlockElements], averaged[kBlockElements];
    const RowFactor<T> by = factor(value, begin, size, scratch);
    if (by.is_one() && !average.data) return;
    for (int64_t done = 0, n; done < size; done += n) {
      n = size - done < kBlockElements ? size - done : kBlockElements;
      load_block(tensor, value, begin + done, n, scratch);
      if (!by.is_one()) {
        if (by.power != T(1)) limit_run(by.power, n, scratch);
        limit_run(by.scale, n, scratch);
        if (master.data) store_block(tensor, master, begin + done, n, scratch);
        if (at_random)
          round_at_random(param.dtype, begin + done, n, random(), Draw::limit, scratch, scratch);
        store_block(tensor, param, begin + done, n, scratch);
        // The average is of the parameter as it is held, unless there is a master copy.
        if (!master.data) load_block(tensor, param, begin + done, n, scratch);
      }
      if (!average.data) continue;
      load_block(tensor, average, begin + done, n, averaged);
      const T gain = T(values()[kAverageGain]);
#pragma GCC ivdep
      for (int64_t i = 0; i < n; ++i) averaged[i] = running_average(averaged[i], scratch[i], gain);
      store_block(tensor, average, begin + done, n, averaged);
    }
  }
  static void task(void* context, int64_t t) {
    const LimitJob& job = *static_cast<const LimitJob*>(context);
    const FlushDenormals flush;
    const int64_t size = job.tensor.size / job.tensor.rows;
    const int64_t first = t * job.rows_of_task, left = job.tensor.rows - first;
    const int64_t last = first + (left < job.rows_of_task ? left : job.rows_of_task);
    for (int64_t r = first; r < last; ++r) {
      if (job.tensor.computing == DType::f64) {
        job.row<double>(r * size, size);
      } else {
        job.row<float>(r * size, size);
      }
    }
  }
};

void limit_rows(const Elementwise& call) {
  for (int64_t t = 0; t < call.count; ++t) {
    const Tensor& tensor = call.tensors[t];
    LimitJob job{call, tensor, 1};
    if (tensor.size == 0 || !rows_are_limited(job.limit(), tensor.rows > 0)) continue;
    const int64_t size = tensor.size / tensor.rows;
    job.rows_of_task = size < kGroupElements ? kGroupElements / size : 1;
    const int64_t tasks = (tensor.rows + job.rows_of_task - 1) / job.rows_of_task;
    if (tasks == 1) {
      LimitJob::task(&job, 0);
    } else {
      parallel_for(tasks, &LimitJob::task, &job);
    }
  }
}

}  // namespace
ONEPASS_END

ONEPASS_CPU_UNIT(limit_rows) { backend->limit_rows = &onepass::ONEPASS_ISA::limit_rows; }
