// The contract between the binding and the backends: one struct for each kind of call, and the
// table of functions that take them. The binding fills a call after every check has passed; the
// drivers in cpu/ and cuda/ read it. Set fields by name: each has a default.
//
// On a device all pointers are device memory, except `tensors`, their operands, `hyper` and
// `options`. A device never allocates: the caller lends `workspace`, aligned to 16 bytes and not
// initialised, of the size that the backend's …_workspace function returns.
//
// Sizes and strides count elements, not bytes. The computing type is double for f64 and float for
// everything else; f16 and bf16 are storage only.
#pragma once
#include <cstdint>

#include "core/dtype.h"
#include "core/philox.h"

namespace onepass {

constexpr int kMaxDims = 16;

struct Operand {
  void* data = nullptr;
  DType dtype = DType::f32;
  const int64_t* strides = nullptr;  // one per dimension of the tensor; null: dense in C order
};

// One tensor of an elementwise call; all its operands share the shape.
struct Tensor {
  int64_t size = 0;
  const int64_t* shape = nullptr;  // read only if an operand has strides
  int32_t ndim = 0;
  int32_t hyper_set = 0;  // its row of Elementwise::hyper
  DType computing = DType::f32;
  const Operand* operands = nullptr;  // in the order of the functor's signature
  // Of an update: its index among all parameters, for GradientRider::steps and ::scalars,
  // Elementwise::norms and random bits.
  int64_t parameter = 0;
  int64_t rows = 0;  // of a parameter with two axes or more: the extent of the first one
};

// The operands of every update.
constexpr int kParam = 0, kGrad = 1, kFirstState = 2;

// Pieces start at multiples of this within their tensor: 1024 elements are 32 words of dropout bits
// and leave room in a 32 KiB first-level cache for five float operands.
constexpr int64_t kBlockElements = 1024;
constexpr int64_t kGroupElements = 8 * kBlockElements;

// A contiguous run of elements of one tensor. core/schedule.h cuts the pieces and groups.
struct Piece {
  int64_t tensor, begin, size;
};
struct Schedule {
  const Piece* pieces = nullptr;
  const int64_t* groups = nullptr;  // group g owns pieces [groups[g], groups[g + 1])
  int64_t group_count = 0;
  int64_t elements = 0;
};

// A number in memory of the device, which a kernel reads there; null: there is none.
struct DeviceNumber {
  const void* data = nullptr;
  DType dtype = DType::f32;
};

// Norm of a list of tensors after unscaling, with or without clamping.
enum class NormOrder : int32_t { one, two, inf };
struct GlobalNormResult {
  double norm;              // of g · unscale
  double clamped_norm;      // of clamp(g · unscale, ±max_value); equal to norm without a limit
  int64_t first_nonfinite;  // index of the first tensor holding Inf or NaN, or -1
  double unit = 1;          // of clamped_norm; a power of two where it exceeds every double
};
// An optimizer step changes the gradient before the update sees it:
//   g ← clamp(g · unscale, ±max_value) · coefficient · rest
struct GradientRider {
  static constexpr double kNoLimit = __builtin_huge_val();

  double unscale = 1, max_value = kNoLimit, coefficient = 1;
  double rest = 1;         // a power of two, for a product that is too small for a double
  bool zero_grad = false;  // leave the gradient array at zero
  // On a device the host does not wait for the norm: the update reads it here and multiplies the
  // coefficient by min(1, max_norm/(norm + 1e-6)). With skip_nonfinite it changes nothing (but see
  // zero_skipped) if a gradient is not finite. Null on the CPU.
  const GlobalNormResult* norm = nullptr;
  double max_norm = -1;  // negative: no clipping
  // On a device: numbers that a kernel reads there in place of 1/unscale and of max_norm, which
  // then says only that there is clipping.
  DeviceNumber grad_scale, device_max_norm;
  bool skip_nonfinite = false;
  bool zero_skipped = true;  // zero_grad holds for a skipped step too
  // Only the device knows whether it skipped a step, so it counts them. Where `steps` is given, the
  // update takes a tensor's step to be steps[parameter] + 1, in place of the one in its row, and
  // adds one afterwards unless it skips. Likewise the rule's n scalars, scalars[n · parameter] and
  // on. `ticket` is a word that is zero before and after every call.
  int64_t* steps = nullptr;
  double* scalars = nullptr;
  uint32_t* ticket = nullptr;

  bool active() const {
    return unscale != 1 || coefficient != 1 || rest != 1 || max_value < kNoLimit;
  }
};

// Stages around the update of an element: see core/stage_row.h.
struct StepStages {
  bool active = false;
  int32_t first = 0;       // position of a tensor's first StageOperand
  bool in_order = false;   // a stage asks for C-order indices: operands are laid out in C order
  bool has_limit = false;  // a row has kMaxRowNorm; a pass of its own averages those parameters
  uint64_t seed = 0;
};

// A tensor's part of a rule with factors (core/factors.h). If the parameter has two axes or more:
// its last two extents, and the states of its rows and columns. Else: extents 0 and 0, and the
// state of its elements in place of that of rows. States are dense.
struct Factors {
  int64_t height = 0, width = 0;
  Operand rows, columns;
};

struct KeptTable;  // core/kept_table.h

struct Elementwise {
  const Tensor* tensors = nullptr;
  int64_t count = 0;
  Schedule schedule;  // of the same tensors; a device reads `elements` alone
  // hyper_rows rows of hyper_size values: what the functor's constructor takes.
  const double* hyper = nullptr;
  int64_t hyper_rows = 0, hyper_size = 0;
  DropoutStream random{0, 0, 0};  // for functors that draw
  GradientRider rider;            // for optimizer updates
  StepStages stages;              // likewise
  // norm_count numbers of each tensor, norms[norm_count · parameter] and on: a measuring functor
  // leaves them there, and the update that needs them reads them.
  double* norms = nullptr;
  int64_t norm_count = 0;
  // On a device: null, or what a graph that is replayed reads in place of `hyper`. The first number
  // is 0 as long as `hyper` holds; behind it are hyper_rows rows.
  const double* numbers = nullptr;
  void* stream = nullptr;
  void* workspace = nullptr;
  // For a rule with factors: one for each tensor, and the values that its pass leaves for later
  // ones.
  const Factors* factors = nullptr;
  void* factored = nullptr;
  // Elements in a row, of the whole tensor in C order, that share a bit of `random`.
  int64_t repeat = 1;
  // Of `workspace`, which the caller then keeps: of tensors that are computed in float, and of
  // those in double. Null: it has no such tables.
  KeptTable* tables = nullptr;
  void* spare = nullptr;  // with tables: a workspace for one beside that of a graph
};

// The keep bits of elements 0 to `elements`, one byte each, or packed, the first in the lowest bit.
struct DropoutMask {
  uint8_t* out = nullptr;
  int64_t elements = 0;
  DropoutStream random{0, 0, 0};
  bool packed = false;
  void* stream = nullptr;
  void* workspace = nullptr;
};

struct GlobalNorm {
  const Tensor* tensors = nullptr;
  int64_t count = 0;
  Schedule schedule;
  int32_t operand = 0;  // which operand of each tensor is measured
  NormOrder order = NormOrder::two;
  double unscale = 1, max_value = GradientRider::kNoLimit;
  DeviceNumber grad_scale;  // as of GradientRider
  GlobalNormResult* result = nullptr;
  void* stream = nullptr;
  void* workspace = nullptr;
  // A word of device memory that is zero before and after every call. With it one launch is enough.
  uint32_t* ticket = nullptr;
  KeptTable* tables = nullptr;  // as of Elementwise
  void* spare = nullptr;
};

// One value per channel, of any floating dtype; data null: absent.
struct ChannelVector {
  void* data = nullptr;
  DType dtype = DType::f32;
};

// Follows the affine part in the same pass: y = dropout(activation(z + residual)).
struct Epilogue {
  const void* residual = nullptr;   // like x; null: none
  int32_t activation = kIdentity;   // index in Activations (kernels/activation_list.h)
  const double* options = nullptr;  // of the activation
  DropoutStream dropout{0, 0, 0};   // threshold 0: none; element index = position in x

  static constexpr int32_t kIdentity = 0, kRelu = 1;
};

// Dense arrays seen as (outer, channels, inner): NCHW is (N, C, H·W); (N, C) and channels-last
// have inner = 1 and every other axis in outer.
struct Channelwise {
  int64_t outer = 0, channels = 0, inner = 0;
  DType dtype = DType::f32;  // of x, residual, y, dy, dx, dresidual, add
  const void* x = nullptr;
  ChannelVector weight, bias;
  Epilogue epilogue;
  void* y = nullptr;         // forward
  const void* dy = nullptr;  // backward, and its results; null where not wanted
  void* dx = nullptr;
  void* dresidual = nullptr;
  const void* add = nullptr;  // of a norm over channels: dx is added to it; may be dx; null: none
  ChannelVector dweight, dbias;
  void* stream = nullptr;
  void* workspace = nullptr;
};

// A norm over channels may be one of a batch of which the call has one share of several. Then there
// are two calls for each, forward and backward: the first leaves what the others need of this
// share, the second takes that of all and does the rest.
enum class Part : int32_t { whole, sums, rest };

// A norm over the elements of each channel, by a rule of kernels/channel_norm_list.h.
struct ChannelNorm : Channelwise {
  ChannelVector running_mean, running_var;
  bool batch_statistics = false;  // else normalise by the running ones
  double momentum = 0, eps = 0;
  // Rows of `channels` values of the computing type, written by forward, read by backward: the
  // mean, the part of it that rounding lost, 1/sqrt(variance + eps), and what else the rule has.
  void* saved = nullptr;
  double rmax = 1, dmax = 0;  // limits of batch_renorm
  Part part = Part::whole;    // others: of batch_norm, by batch_statistics
  // Rows of `channels` values: those of this share, or of all, one share after the other. They are
  // the members of ShareMoments or ShareSums (kernels/shares.h). A backward of the second call
  // reads dresidual, which that of the first has written, and gives dx alone.
  double* shares = nullptr;
  int64_t share_count = 0;
};

// A norm over the elements of each row, by a rule of kernels/row_norm_list.h. Arrays are seen as
// (outer, groups, channels, inner), and a row is the (channels, inner) of one (outer, group). There
// is a weight and a bias for each (group, channel).
//
//   layer_norm, rms_norm    groups = inner = 1, a channel for each element of a row
//   group_norm              channels = C / groups
//   instance_norm           groups = C, channels = 1
//   weight_norm             outer = channels = 1, groups = rows
struct RowNorm : Channelwise {
  int64_t groups = 1;
  double eps = 0;
  // Three values of the computing type for each row, written by forward, read by backward: row
  // after row the mean; behind them the parts that rounding lost; then 1/deviation.
  void* saved = nullptr;
  bool takes_statistics = false;  // there was no forward: backward writes `saved` itself
  // One value for each group: moved to the mean over outer of what its rows have. Null: none.
  ChannelVector running_mean, running_var;
  double momentum = 0;

  int64_t rows() const { return outer * groups; }
  int64_t row_elements() const { return channels * inner; }
};

enum class Reduction : int32_t { none, mean, sum };
struct CrossEntropy {
  int64_t outer = 0, classes = 0, inner = 0;  // logits (N, C, d1…) seen as (N, C, d1·…)
  DType dtype = DType::f32;
  const void* logits = nullptr;
  void* dlogits = nullptr;
  const int64_t* labels = nullptr;      // (outer, inner), all in range; or null and
  const void* probabilities = nullptr;  // like logits
  ChannelVector weight;
  double label_smoothing = 0;
  int64_t ignore_index = 0;
  Reduction reduction = Reduction::none;
  ChannelVector loss;      // mean and sum: one value
  void* losses = nullptr;  // none: (outer, inner) of the logits' dtype
  void* stream = nullptr;
  void* workspace = nullptr;
  // A device checks labels as it reads them: a row whose label is out of range gets loss NaN and
  // gradient 0, and this word, if given, becomes 1. Nothing clears it.
  uint32_t* bad_label = nullptr;
};

// The operands of PointwiseLoss::tensor.
enum LossOperand : int {
  kLossGradient,  // dinput, which may be the input
  kLossInput,
  kLossTarget,
  kLossPosWeight,  // null: 1
  kLosses,         // null: not wanted
  kLossOperands
};
// An element whose input or target lies outside 0 to 1, for a loss of probabilities.
struct Refusal {
  int64_t element = -1;  // the first; -1: there is none
  int32_t operand = 0;
  double value = 0;
};
// A loss of each element by itself, by a rule of kernels/loss_list.h.
struct PointwiseLoss {
  Tensor tensor;                  // in C order
  const double* hyper = nullptr;  // of the rule
  double divisor = 1;             // of the sum of all losses, and of the gradient
  ChannelVector loss;             // one value: the sum over the divisor; null: not wanted
  void* stream = nullptr;
  void* workspace = nullptr;  // on the CPU too
  // Where nothing is written because of it. A device gives NaN for such an element instead.
  Refusal* refusal = nullptr;
};

// A kernel along the classes of dense arrays, seen as (outer, classes, inner).
struct AlongClasses {
  int64_t outer = 0, classes = 0, inner = 0;
  DType dtype = DType::f32;  // of all arrays
  const void* x = nullptr;   // what the kernel folds; of softmax_backward: y
  const void* dy = nullptr;  // backward; of maxout: (outer, inner)
  void* out = nullptr;       // y, which is (outer, inner) of maxout; or dx
  bool logarithm = false;    // of softmax
  void* stream = nullptr;
  void* workspace = nullptr;
};

// Windows over images, seen as (samples, channels, rows, columns) or with the channels last; dense.
// core/windows.h says which elements a window covers.
struct WindowAxis {
  int64_t in = 0, out = 0;  // extents of the image, and windows
  int64_t kernel = 1, stride = 1, dilation = 1;
  int64_t before = 0, after = 0;  // padding
};
struct Windows {
  int64_t samples = 0, channels = 0;
  WindowAxis rows, columns;
  bool channels_last = false;
  bool count_padding = true;  // an average divides by the window's padding too
  DType dtype = DType::f32;   // of `from` and `out`
  // The image; of a backward, and of col2im, what has a value for each window.
  const void* from = nullptr;
  void* indices = nullptr;  // of max_pool2d, of the computing type: which tap was the largest
  // Of a depthwise convolution, (channels, taps); and of its gradient, which has the image as
  // `from` and gives (channels, taps) of the computing type.
  ChannelVector weight{nullptr, DType::f32};
  const void* dy = nullptr;
  void* out = nullptr;
  void* stream = nullptr;
  void* workspace = nullptr;
};

// Bytes of the host, a multiple of 8, and where a device is to have them.
struct HostBytes {
  const void* from = nullptr;
  int64_t size = 0;
  void* to = nullptr;
  void* stream = nullptr;
};

// A count on the device: the kernel copies it to `taken` and adds one.
struct TakeNumber {
  uint64_t* count = nullptr;
  uint64_t* taken = nullptr;
  void* stream = nullptr;
};

template <class Call>
using Run = void (*)(const Call&);

// Everything a backend can run. The units of a backend fill it by name, each its own part. Tables
// have an entry for each formula of a list, in its order; kernels/tables.h is the memory for them.
struct Backend {
  const char* name = nullptr;
  Run<Elementwise>* activation = nullptr;
  Run<Elementwise>* activation_backward = nullptr;
  // For activations whose gradient follows from the output; null for all others.
  Run<Elementwise>* activation_backward_y = nullptr;
  // [rule][variant]: bit i of the variant is set where optional state i is there.
  const Run<Elementwise>** update = nullptr;
  // Likewise; null for a rule without norms (core/rule.h).
  const Run<Elementwise>** measure = nullptr;
  Run<ChannelNorm>* channel_norm = nullptr;
  Run<ChannelNorm>* channel_norm_backward = nullptr;
  Run<RowNorm>* row_norm = nullptr;
  Run<RowNorm>* row_norm_backward = nullptr;
  // The norms of diagnostics (kernels/watch.h), before a step and after it.
  void (*watch_before)(const Elementwise&) = nullptr;
  void (*watch_after)(const Elementwise&) = nullptr;
  // After an update with stages: scales rows back to kMaxRowNorm.
  void (*limit_rows)(const Elementwise&) = nullptr;
  void (*dropout)(const Elementwise&) = nullptr;
  void (*global_norm)(const GlobalNorm&) = nullptr;
  void (*bias_act)(const Channelwise&) = nullptr;
  void (*bias_act_backward)(const Channelwise&) = nullptr;
  void (*cross_entropy)(const CrossEntropy&) = nullptr;
  // Bytes of workspace that a call needs, all its other fields being set. Null: no call needs any.
  // The second is that of measure, watch_before and watch_after, on the CPU too.
  int64_t (*elementwise_workspace)(const Elementwise&) = nullptr;
  int64_t (*measure_workspace)(const Elementwise&) = nullptr;
  int64_t (*global_norm_workspace)(const GlobalNorm&) = nullptr;
  int64_t (*channelwise_workspace)(const Channelwise&) = nullptr;
  int64_t (*row_norm_workspace)(const RowNorm&) = nullptr;
  int64_t (*cross_entropy_workspace)(const CrossEntropy&) = nullptr;
  // Returns this thread's first error since the last time, or null, and forgets it. Null: no call
  // can fail.
  const char* (*last_error)() = nullptr;
  // Makes a device the calling thread's current one, which no other device notices: none gets a
  // context, which takes memory there. 1: leave_device puts back what was, 0: it was the current
  // one already, -1: see last_error. Null on the CPU.
  int (*enter_device)(int device) = nullptr;
  // A word of host memory that kernels on the device can write, for CrossEntropy::bad_label: always
  // the same one. Null result: see last_error.
  uint32_t* (*host_word)(int device) = nullptr;
  // Whether a stream of the current device captures a graph, which keeps what its calls are given.
  // Null: none can.
  bool (*captures)(void* stream) = nullptr;
  // Writes them in the order of the stream; `from` may change after the call. Null on the CPU.
  void (*write)(const HostBytes&) = nullptr;
  void (*take_number)(const TakeNumber&) = nullptr;
  void (*dropout_mask)(const DropoutMask&) = nullptr;
  // The pass before measure and update of a rule with factors, null for any other rule, in the
  // order of `update`; and its workspace, on the CPU too.
  const Run<Elementwise>** factor = nullptr;
  int64_t (*factor_workspace)(const Elementwise&) = nullptr;
  void (*softmax)(const AlongClasses&) = nullptr;
  void (*softmax_backward)(const AlongClasses&) = nullptr;
  void (*maxout)(const AlongClasses&) = nullptr;
  void (*maxout_backward)(const AlongClasses&) = nullptr;
  // Operands (y, a, b) and (da, db, dy, a, b); hyper-parameters as in kernels/glu.h.
  void (*glu)(const Elementwise&) = nullptr;
  void (*glu_backward)(const Elementwise&) = nullptr;
  // Losses of rows. Each takes what it has of a CrossEntropy: nll_loss has labels, its logits being
  // log-probabilities; wasserstein_1d has probabilities, of histograms along the classes.
  void (*nll_loss)(const CrossEntropy&) = nullptr;
  void (*wasserstein_1d)(const CrossEntropy&) = nullptr;
  // By the index of a loss.
  Run<PointwiseLoss>* pointwise_loss = nullptr;
  int64_t (*pointwise_loss_workspace)(const PointwiseLoss&) = nullptr;
  // Like dropout.
  void (*alpha_dropout)(const Elementwise&) = nullptr;
  void (*alpha_dropout_backward)(const Elementwise&) = nullptr;
  // im2col gives (samples, windows, taps, channels) where the channels are last, else (channels,
  // taps, samples, windows).
  void (*im2col)(const Windows&) = nullptr;
  void (*col2im)(const Windows&) = nullptr;
  void (*max_pool2d)(const Windows&) = nullptr;
  void (*max_pool2d_backward)(const Windows&) = nullptr;
  void (*avg_pool2d)(const Windows&) = nullptr;
  void (*avg_pool2d_backward)(const Windows&) = nullptr;
  // Of an axis only the extent and the number of windows count.
  void (*adaptive_avg_pool2d)(const Windows&) = nullptr;
  void (*adaptive_avg_pool2d_backward)(const Windows&) = nullptr;
  void (*depthwise_conv2d)(const Windows&) = nullptr;
  void (*depthwise_conv2d_backward)(const Windows&) = nullptr;
  void (*depthwise_conv2d_weight_backward)(const Windows&) = nullptr;
  int64_t (*depthwise_workspace)(const Windows&) = nullptr;  // on the CPU of pools too; null: none
  // Beside enter_device. -1: see last_error.
  void (*leave_device)() = nullptr;
  int (*current_device)() = nullptr;
};

}  // namespace onepass
