// What a backend is asked to do: plain descriptions of one call, filled by the binding after every
// check has passed, read by the drivers in cpu/ and cuda/. Nothing here depends on a backend.
//
// On a device every pointer but `tensors`, their operands' descriptions, `hyper` and `options` is
// device memory, also where a result goes. A device never allocates: `workspace` is memory of the
// caller, aligned to 16 bytes, not initialised, of as many bytes as the backend asks for.
//
// Arrays are described in elements, never bytes. "Computing type" means double for f64 and float
// for everything else; f16 and bf16 are storage only.
#pragma once
#include <cstdint>

#include "core/dtype.h"
#include "core/philox.h"

namespace onepass {

constexpr int kMaxDims = 16;

struct Operand {
  void* data;
  DType dtype;
  const int64_t* strides;  // one per dimension of the tensor; null: dense in C order
};

// One tensor of an elementwise call; all its operands share the shape.
struct Tensor {
  int64_t size;
  const int64_t* shape;  // read only where an operand has strides
  int32_t ndim;
  int32_t hyper_set;        // which row of Elementwise::hyper it uses
  DType computing;          // f32 or f64
  const Operand* operands;  // in the order of the functor's signature
  int64_t counter = 0;      // which of GradientRider::steps counts this tensor's steps
};

// Which tensor a contiguous run of elements belongs to, and how runs are dealt out to threads.
struct Piece {
  int64_t tensor, begin, size;
};
struct Schedule {
  const Piece* pieces;
  const int64_t* groups;  // group g owns pieces [groups[g], groups[g + 1])
  int64_t group_count;
  int64_t elements;
};

// Norm of a list of tensors after unscaling, with or without clamping.
enum class NormOrder : int32_t { one, two, inf };
struct NormResult {
  double norm;              // of g · unscale
  double clamped_norm;      // of clamp(g · unscale, ±max_value); equal to norm without a limit
  int64_t first_nonfinite;  // index of the first tensor holding Inf or NaN, or -1
};
// What an optimizer step does to the gradient before the update sees it, in this order:
//   g ← clamp(g · unscale, ±max_value) · coefficient
struct GradientRider {
  double unscale, max_value, coefficient;
  bool zero_grad;  // the gradient array is left at zero
  // Where the norm is computed on a device, the host does not wait for it: the update reads it
  // here, multiplies the coefficient by min(1, max_norm/(norm + 1e-6)) itself and, with
  // skip_nonfinite, changes nothing (see zero_skipped) when a gradient is not finite. Null on the
  // CPU.
  const NormResult* norm;
  double max_norm;
  bool skip_nonfinite;
  bool zero_skipped = true;  // zero_grad also holds for a call that changes nothing else
  // On a device the steps taken so far are counted there, since only there it is known whether one
  // was skipped: where these are given, the step of a tensor's row (its last value) is
  // steps[counter] + 1, and unless it is skipped the call leaves it so. `ticket` is a word that is
  // zero before and after every call.
  int64_t* steps = nullptr;
  uint32_t* ticket = nullptr;
  bool active() const { return unscale != 1 || coefficient != 1 || max_value < kNoLimit; }
  static constexpr double kNoLimit = __builtin_huge_val();
};

struct Elementwise {
  const Tensor* tensors;
  int64_t count;
  Schedule schedule;    // of the same tensors; the CPU's unit of work
  const double* hyper;  // hyper_rows rows of hyper_size values
  int64_t hyper_rows, hyper_size;
  DropoutStream random;  // read by functors that draw
  GradientRider rider;   // read by optimizer updates
  void* stream;
  void* workspace = nullptr;
};

// The keep bits of elements 0 to `elements`, one byte each, or packed, the first in the lowest bit.
struct DropoutMask {
  uint8_t* out;
  int64_t elements;
  DropoutStream random;
  bool packed;
};

// Norm of a list of tensors.
struct Norm {
  const Tensor* tensors;
  int64_t count;
  Schedule schedule;
  int32_t operand;  // which operand of each tensor is measured
  NormOrder order;
  double unscale, max_value;
  NormResult* result;
  void* stream;
  void* workspace = nullptr;
  // A word of device memory that is zero before and after every call: with it, one launch is
  // enough.
  uint32_t* ticket = nullptr;
};

// One value per channel, of any floating dtype; data null: absent.
struct ChannelVector {
  void* data;
  DType dtype;
};

// What follows the affine part in the same pass: y = dropout(activation(z + residual)).
struct Epilogue {
  const void* residual;   // like x; null: none
  int32_t activation;     // index in Activations (kernels/list.h); 0 is identity
  const double* options;  // of the activation
  DropoutStream dropout;  // threshold 0: none; element index = position in x
};

// Dense arrays seen as (outer, channels, inner): NCHW is (N, C, H·W); (N, C) and channels-last
// have inner = 1 and every other axis in outer.
struct Channelwise {
  int64_t outer, channels, inner;
  DType dtype;  // of x, residual, y, dy, dx, dresidual
  const void* x;
  ChannelVector weight, bias;
  Epilogue epilogue;
  void* y;         // forward
  const void* dy;  // backward, and what it writes; null where not wanted
  void* dx;
  void* dresidual;
  ChannelVector dweight, dbias;
  void* stream;
  void* workspace = nullptr;
};

struct BatchNorm : Channelwise {
  ChannelVector running_mean, running_var;
  bool batch_statistics;  // else normalise by the running ones
  double momentum, eps;
  // Three rows of `channels` values of the computing type, written by forward, read by backward:
  // the mean, what rounding it lost, and 1/sqrt(variance + eps).
  void* saved;
};

enum class Reduction : int32_t { none, mean, sum };
struct CrossEntropy {
  int64_t outer, classes, inner;  // logits (N, C, d1…) seen as (N, C, d1·…)
  DType dtype;
  const void* logits;
  void* dlogits;
  const int64_t* labels;      // (outer, inner), checked to lie in range; or null and
  const void* probabilities;  // like logits
  ChannelVector weight;
  double label_smoothing;
  int64_t ignore_index;
  Reduction reduction;
  ChannelVector loss;  // mean and sum: one value
  void* losses;        // none: (outer, inner) of the logits' dtype
  void* stream;
  void* workspace = nullptr;
  // A device does not check labels before it starts: a row whose label is out of range gets loss
  // NaN and gradient 0, and this word, where given, becomes 1. Nothing clears it.
  uint32_t* bad_label = nullptr;
};

constexpr int kMaxKernels = 64;

// Everything a backend can run; index = position in the type lists of kernels/list.h.
struct Backend {
  const char* name;
  void (*activation[kMaxKernels])(const Elementwise&);
  void (*activation_backward[kMaxKernels])(const Elementwise&);
  void (*update[kMaxKernels])(const Elementwise&);
  void (*dropout)(const Elementwise&);
  void (*norm)(const Norm&);
  void (*bias_act)(const Channelwise&);
  void (*bias_act_backward)(const Channelwise&);
  void (*batch_norm)(const BatchNorm&);
  void (*batch_norm_backward)(const BatchNorm&);
  void (*cross_entropy)(const CrossEntropy&);
  // Bytes of workspace of a call whose other fields are set. Null where no call needs any.
  int64_t (*elementwise_workspace)(const Elementwise&) = nullptr;
  int64_t (*norm_workspace)(const Norm&) = nullptr;
  int64_t (*channelwise_workspace)(const Channelwise&) = nullptr;
  int64_t (*cross_entropy_workspace)(const CrossEntropy&) = nullptr;
  // What went wrong first in this thread's calls since this was last asked; null: nothing. Where
  // null itself, no call can fail.
  const char* (*last_error)() = nullptr;
  // Makes a device the calling thread's current one and returns which one was; -1: see last_error.
  // Null on the CPU.
  int (*use_device)(int device) = nullptr;
  // A word of host memory that kernels on the device can write, for CrossEntropy::bad_label: always
  // the same one. Null result: see last_error.
  uint32_t* (*host_word)(int device) = nullptr;
  // Null on a device.
  void (*dropout_mask)(const DropoutMask&) = nullptr;
};

}  // namespace onepass
