// batch_norm of a batch that lies in several shares, in two calls forward and two backward: what
// the others need of this share, and then the rest, with that of all.
#include "bind/channel_norm.h"
#include "kernels/shares.h"

namespace onepass::bind {
namespace {

constexpr int64_t kMomentRows = host::count_of(host::ShareMoments::Rows{});
constexpr int64_t kSumRows = host::count_of(host::ShareSums::Rows{});

constexpr Argument kMomentsArguments[] = {
    {"x", reference, read | dense},
    {"share", share_rows, update | packed},
    axis("axis"),
    number("eps", 0, kLargest),
};
constexpr Contract kMoments = contract("batch_norm_moments", kMomentsArguments);

constexpr Argument kOptions[] = {
    {"residual", like_reference, read | dense | optional},
    {"out", like_reference, write},
    {"shares", all_shares, read | packed},
    axis("axis"),
    number("momentum", 0, 1),
    number("eps", 0, kLargest),
};
constexpr auto kForwardTable =
    join(kBatchInputs, kBatchRunning, kOptions, kEpilogueArguments, kSavedStatistics);
constexpr Contract kForward = contract("batch_norm_of_shares", kForwardTable.at);

constexpr Argument kOwnRows[] = {{"share", share_rows, update | packed}};
constexpr auto kSumsTable =
    join(kKeptArrays, kBatchAxis, kEpilogueArguments, kOwnRows, kOtherGradients);
constexpr Contract kSums = contract("batch_norm_backward_sums", kSumsTable.at);

constexpr Argument kAllRows[] = {
    {"shares", all_shares, read | packed},
    {"dresidual", like_reference, read | packed | optional},
    {"out", like_reference, write},
    {"add", like_reference, read | dense | optional | aliased},
};
constexpr auto kBackwardTable = join(kKeptArrays, kBatchAxis, kEpilogueArguments, kAllRows);
constexpr Contract kBackward = contract("batch_norm_backward_of_shares", kBackwardTable.at);

// kRows: of a share.
template <const Contract& kContract, int64_t kRows>
struct SharesBorder : ChannelBorder<kContract, ChannelNorm> {
  explicit SharesBorder(Arguments given) : ChannelBorder<kContract, ChannelNorm>(given) {
    constexpr int kAll = kContract.find("shares");
    ChannelNorm& norm = this->call;
    check_batch_axes(this->first());
    norm.batch_statistics = true;
    norm.part = kAll < 0 ? Part::sums : Part::rest;
    // `statistics` has as many rows as the sums of a share.
    static_assert(kSumRows == host::count_of(host::BatchNormRule<float>::Rows{}));
    this->set(Shape::saved, {kAll < 0 ? kRows : kSumRows, norm.channels},
              ": a row of what belongs to the channels");
    if constexpr (kAll >= 0) {
      const Array& shares = (*this)[kAll];
      norm.share_count = shares.ndim == 3 && shares.shape[0] > 0 ? shares.shape[0] : 1;
      const int64_t extents[] = {norm.share_count, kRows, norm.channels};
      check_shape(shares, extents, 3, ": the rows that each share has left");
    }
  }
  void run() {
    ChannelBorder<kContract, ChannelNorm>::run([](const Backend& backend) {
      constexpr bool kGoesBack = kContract.find("dy") >= 0;
      const auto* drivers = kGoesBack ? backend.channel_norm_backward : backend.channel_norm;
      return drivers[kNormIndex<host::BatchNormRule>];
    });
  }
};

// Writes ShareMoments.
py::object moments(Arguments given) {
  SharesBorder<kMoments, kMomentRows> b(given);
  b.call.eps = b.number(kMoments.position("eps"));
  b.run();
  return py::none();
}

// (y, saved); saved is what both calls of backward take after dy.
py::object forward(Arguments given) {
  constexpr int kMean = kForward.position("running_mean"), kVar = kForward.position("running_var");
  SharesBorder<kForward, kMomentRows> b(given);
  b.call.momentum = b.number(kForward.position("momentum"));
  b.call.eps = b.number(kForward.position("eps"));
  check_running_pair(b, kMean, kVar);
  b.run();
  return py::make_tuple(b.result(b.kOut), kept_for<kSums, kForward>(b, true));
}

// Writes ShareSums; (dweight, dbias, dresidual), None where there is none.
py::object sums(Arguments given) {
  using Of = Gradients<kSums>;
  SharesBorder<kSums, kSumRows> b(given);
  leave_out_gradients<kSums>(&b);
  b.run();
  return py::make_tuple(b.result(Of::kDweight), b.result(Of::kDbias), b.result(Of::kDresidual));
}

// dx.
py::object backward(Arguments given) {
  SharesBorder<kBackward, kSumRows> b(given);
  b.run();
  return b.result(b.kOut);
}

}  // namespace

void define_shared_batch_norm(py::module_& m) {
  define(m, kMoments, &fast<&moments>);
  define(m, kForward, &fast<&forward>);
  define(m, kSums, &fast<&sums>);
  define(m, kBackward, &fast<&backward>);
}

}  // namespace onepass::bind
