// The functors of a launch of the elementwise driver (loops.cuh), and the stages around them.
#pragma once
#include "cuda/elementwise_call.cuh"
#include "cuda/stages.cuh"

ONEPASS_BEGIN
namespace {

// The functors of a launch; a warp makes each when it first needs it. That of an update is made on
// the device, from its row of hyper-parameters, because only the device may know the step count.
// kStaged: the rows end with the values of stages.
template <class K, class T, int kGradient, bool kStaged = false>
class Functors {
 public:
  ONEPASS_DEVICE Functors(const ElementwiseCall<T>& call, const TableView& table)
      : call_(call), table_(table), row_(-1), counter_(-1), step_(0) {}
  template <int kArity>
  ONEPASS_DEVICE void select(const Entry<kArity>& entry) {
    int64_t step = 0;
    if constexpr (counts() || kStaged)
      if (call_.steps) step = call_.steps[entry.number] + 1;
    // Powers are slow. Parameters at the same step may have different scalars.
    const bool same_scalars = scalars_of<K, kGradient>() == 0 || entry.number == counter_;
    if (entry.row != row_ || step != step_ || !same_scalars) {
      row_ = entry.row;
      counter_ = entry.number;
      step_ = step;
      made_.k = make();
    }
    show(&made_.k, entry.size, entry.dtype(0));
    if constexpr (kNorms<K> > 0)
      made_.k.take(call_.norms + int64_t(entry.number) * int64_t(kNorms<K>));
  }
  ONEPASS_DEVICE const K& selected() const { return made_.k; }
  // The stages of the entry that was selected last.
  template <int kArity>
  ONEPASS_DEVICE void stages(const Entry<kArity>& entry, StageTensor<T>* to) const {
    constexpr int kHyper = int(K::hyper.size), kOwn = int(Signature<K>::arity);
    static_assert(kOwn - kFirstState <= kMostStates);
    double row[kStageValues];
    ONEPASS_UNROLL
    for (int h = 0; h < kStageValues; ++h) row[h] = row_at(row_)[kHyper + h];
    if (step_ > 0) row[kStageStep] = double(step_);
    const Stages<T> s(row, kept_by<T>(made_.k));
    const bool limited = rows_are_limited(s.max_row_norm, entry.has_rows);
    to->take(s);
    to->random = {call_.seed, uint32_t(entry.number), s.step};
    to->dtype = entry.dtype(0);
    to->has_master = entry.data[kOwn + kMaster] != nullptr;
    to->has_average = entry.data[kOwn + kAverage] != nullptr && !limited;
    ONEPASS_UNROLL
    for (int o = kFirstState; o < kOwn; ++o) {
      to->dithers = to->dithers && entry.dtype(o) == DType::bf16;
      to->salts[o - kFirstState] = state_salt(to->random, o);
    }
  }

 private:
  static constexpr bool counts() {
    if constexpr (kGradient >= 0) {
      return kCountsSteps<typename K::rule>;
    } else {
      return false;
    }
  }
  ONEPASS_DEVICE const double* row_at(int32_t row) const {
    constexpr int kRow = int(K::hyper.size) + (kStaged ? kStageValues : 0);
    return reinterpret_cast<const double*>(current_rows(call_, table_)) + row * kRow;
  }
  ONEPASS_DEVICE K make() const {
    if constexpr (kGradient < 0) {
      return reinterpret_cast<const K*>(table_.rows())[row_];
    } else {
      constexpr int kHyper = int(K::hyper.size);
      const double* from = row_at(row_);
      double hyper[kHyper + 1];  // there may be none
      ONEPASS_UNROLL
      for (int h = 0; h < kHyper; ++h) hyper[h] = from[h];
      if constexpr (counts())
        if (step_ > 0) next_row<K, Scalars::of_kernel>(call_, counter_, hyper);
      return make_functor<K, T>(hyper);
    }
  }

  union Made {  // there is none before the first
    unsigned char none[sizeof(K)];
    K k;
    ONEPASS_DEVICE Made() : none{} {}
  };
  const ElementwiseCall<T>& call_;
  const TableView& table_;
  int32_t row_, counter_;
  int64_t step_;
  Made made_;
};

}  // namespace
ONEPASS_END
