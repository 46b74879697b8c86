// im2col, pools, depthwise convolutions and what goes back: windows over (N, C, H, W), or
// (N, H, W, C).
#include <algorithm>
#include <memory>

#include "bind/border.h"

namespace onepass::bind {
namespace {

constexpr Argument kImage[] = {{"x", reference, read | dense}, {"out", shorter, write}};
constexpr Argument kBack[] = {
    {"dy", reference, read | dense},
    {"out", shorter, write},
    extents("size"),
};
constexpr Argument kColumns[] = {
    {"cols", reference, read | dense},
    {"out", shorter, write},
    extents("size"),
};
constexpr Argument kPicked[] = {{"indices", {Shape::reference, Type::computing}, read | packed}};
constexpr Argument kIndices[] = {{"indices", {Shape::shorter, Type::computing}, made}};
constexpr Argument kWindow[] = {extents("kernel_size"), extents("stride"), extents("padding")};
constexpr Argument kDilated[] = {extents("dilation")};
constexpr Argument kCeil[] = {flag("ceil_mode")};
constexpr Argument kCounted[] = {flag("count_include_pad")};
constexpr Argument kLast[] = {flag("channels_last")};
constexpr Argument kParts[] = {extents("output_size")};

constexpr Argument kWeight[] = {{"weight", {Shape::channel, Type::parameter}, read | dense}};
constexpr Argument kOfWeight[] = {
    {"x", reference, read | dense},
    {"dy", shorter, read | dense},
    {"out", {Shape::channel, Type::computing}, write},
};
constexpr Argument kStepped[] = {extents("stride"), extents("padding"), extents("dilation")};

constexpr auto kDepthwiseTable = join(kImage, kWeight, kStepped, kLast);
constexpr auto kDepthwiseBackTable = join(kBack, kWeight, kStepped, kLast);
constexpr auto kDepthwiseWeightTable = join(kOfWeight, kWindow, kDilated, kLast);
constexpr auto kIm2colTable = join(kImage, kWindow, kDilated, kLast);
constexpr auto kCol2imTable = join(kColumns, kWindow, kDilated, kLast);
constexpr auto kMaxTable = join(kImage, kWindow, kDilated, kCeil, kLast, kIndices);
constexpr auto kMaxBackTable = join(kBack, kPicked, kWindow, kDilated, kCeil, kLast);
constexpr auto kAvgTable = join(kImage, kWindow, kCeil, kCounted, kLast);
constexpr auto kAvgBackTable = join(kBack, kWindow, kCeil, kCounted, kLast);
constexpr auto kAdaptiveTable = join(kImage, kParts, kLast);
constexpr auto kAdaptiveBackTable = join(kBack, kLast);
constexpr Contract kIm2col = contract("im2col", kIm2colTable.at);
constexpr Contract kCol2im = contract("col2im", kCol2imTable.at);
constexpr Contract kMax = contract("max_pool2d", kMaxTable.at);
constexpr Contract kMaxBack = contract("max_pool2d_backward", kMaxBackTable.at);
constexpr Contract kAvg = contract("avg_pool2d", kAvgTable.at);
constexpr Contract kAvgBack = contract("avg_pool2d_backward", kAvgBackTable.at);
constexpr Contract kAdaptive = contract("adaptive_avg_pool2d", kAdaptiveTable.at);
constexpr Contract kAdaptiveBack = contract("adaptive_avg_pool2d_backward", kAdaptiveBackTable.at);
constexpr Contract kDepthwise = contract("depthwise_conv2d", kDepthwiseTable.at);
constexpr Contract kDepthwiseBack = contract("depthwise_conv2d_backward", kDepthwiseBackTable.at);
constexpr Contract kDepthwiseWeight =
    contract("depthwise_conv2d_weight_backward", kDepthwiseWeightTable.at);

// Reads `count` integers from `least` on; those of an argument that a table lacks stay.
void read_sizes(const Border& b, const char* name, int i, int64_t least, int count, int64_t* to) {
  if (i < 0) return;
  const Items items(b.op(), name, b.given(i));
  bool fits = items.count() == count;
  for (int n = 0; fits && n < count; ++n) {
    to[n] = signed_64(b.op(), name, items[n]);
    fits = to[n] >= least && to[n] <= INT32_MAX;
  }
  if (!fits)
    value_error(b.op(), is(name, b.given(i)) + ", expected " + std::to_string(count) +
                            " integers >= " + std::to_string(least));
}

// What a function makes of windows: columns, a pool's elements, those of an adaptive pool, a
// convolution with `weight`, or the gradient of that.
enum class Makes { columns, pool, adaptive, convolution, weights };
enum class Way { forward, backward };  // backward gives an image, of `size`

template <const Contract& kContract, Makes kMakes, Way kWay = Way::forward>
class WindowBorder : public BorderOf<kContract> {
  using Base = BorderOf<kContract>;
  static constexpr int at(const char* name) { return kContract.find(name); }
  static constexpr bool kBackward = kWay == Way::backward;
  static constexpr bool kPool = kMakes == Makes::pool, kAdaptive = kMakes == Makes::adaptive;
  static constexpr bool kWeights = kMakes == Makes::convolution,
                        kOfWeights = kMakes == Makes::weights;
  static constexpr bool kColumns = kMakes == Makes::columns;
  static constexpr bool kTaken = kContract.find("indices") >= 0;  // taps are remembered
  static constexpr int64_t kMostTaps = 1 << 24;

 public:
  explicit WindowBorder(Arguments given) : Base(given) {
    call.dtype = this->first().dtype();
    call.channels_last = this->boolean(at("channels_last"));
    if constexpr (at("ceil_mode") >= 0) ceil_ = this->boolean(at("ceil_mode"));
    if constexpr (at("count_include_pad") >= 0)
      call.count_padding = this->boolean(at("count_include_pad"));
    read_windows();
    read_image();
    if constexpr (kWeights || kOfWeights)
      this->set(Shape::channel, {call.channels, 1, call.rows.kernel, call.columns.kernel},
                ": a kernel for each channel of the image");
    count_windows(&call.rows);
    count_windows(&call.columns);
    set_result();
  }

  // Whether all windows of an adaptive pool have one size; the call is then that of a plain pool.
  bool even() {
    WindowAxis* const axes[] = {&call.rows, &call.columns};
    for (const WindowAxis* a : axes)
      if (a->in % a->out != 0) return false;
    for (WindowAxis* a : axes) a->kernel = a->stride = a->in / a->out;
    return true;
  }

  py::object run(void (*Backend::*driver)(const Windows&)) {
    const Target target = this->check();
    call.from = this->first().data;
    call.out = this->data(kContract.position("out"));
    if constexpr (at("indices") >= 0) call.indices = this->data(at("indices"));
    if constexpr (kOfWeights) call.dy = this->data(at("dy"));
    std::unique_ptr<char[]> memory;
    if constexpr (kWeights) call.weight = this->vector(at("weight"));
    if (!target.on_device()) {
      memory.reset(new char[size_t(workspace_bytes(*target.backend, call))]);
      call.workspace = memory.get();
    }
    Base::run(target, target.backend->*driver, &call);
    return this->result(kContract.position("out"));
  }

  Windows call;

 private:
  [[noreturn]] void refuse(const std::string& text) const { value_error(this->op(), text); }
  std::string given_as(const char* name) const {
    return is(name, this->given(kContract.find(name)));
  }

  std::string window_as_given() const {
    if constexpr (kWeights)
      return "'weight' of " + std::to_string(call.rows.kernel) + " by " +
             std::to_string(call.columns.kernel);
    else if constexpr (kAdaptive)
      return kBackward ? "'dy' of " + shape_text(this->first()) : given_as("output_size");
    else
      return given_as("kernel_size");
  }

  std::string others_as_given() const {
    if constexpr (kAdaptive) return "";
    return ", " + given_as("padding") + ", " + given_as("stride");
  }

  void read_windows() {
    int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1}, padding[4] = {};
    if constexpr (kWeights) {
      const Array& weight = (*this)[at("weight")];
      if (weight.ndim != 4 || weight.shape[2] < 1 || weight.shape[3] < 1)
        refuse(weight.label() + " has shape " + shape_text(weight) +
               ", expected (C, 1, rows, columns)");
      for (int d = 0; d < 2; ++d) kernel[d] = weight.shape[2 + d];
    }
    read_sizes(*this, "kernel_size", at("kernel_size"), 1, 2, kernel);
    read_sizes(*this, "stride", at("stride"), 1, 2, stride);
    read_sizes(*this, "dilation", at("dilation"), 1, 2, dilation);
    // Before and after the rows, then the columns.
    read_sizes(*this, "padding", at("padding"), 0, 4, padding);
    WindowAxis* const axes[] = {&call.rows, &call.columns};
    for (int d = 0; d < 2; ++d)
      *axes[d] = {0, 0, kernel[d], stride[d], dilation[d], padding[2 * d], padding[2 * d + 1]};
    if constexpr (kAdaptive && !kBackward) {
      int64_t parts[2];
      read_sizes(*this, "output_size", at("output_size"), 1, 2, parts);
      for (int d = 0; d < 2; ++d) axes[d]->out = parts[d];
    }
    if constexpr (!kPool) return;
    for (int d = 0; d < 2; ++d)
      if (2 * larger_padding(*axes[d]) > (kernel[d] - 1) * dilation[d] + 1)
        refuse(given_as("padding") + ", expected at most half of the kernel, " +
               given_as("kernel_size"));
  }
  static int64_t larger_padding(const WindowAxis& a) { return std::max(a.before, a.after); }

  // The extents of the image, and of what lies along the windows.
  void read_image() {
    const Array& x = this->first();
    if constexpr (kBackward) {
      int64_t size[2];
      read_sizes(*this, "size", at("size"), 1, 2, size);
      call.rows.in = size[0];
      call.columns.in = size[1];
    }
    if constexpr (kBackward && kColumns) {
      read_columns(x);
    } else {
      if (x.ndim != 3 && x.ndim != 4)
        refuse(x.label() + " has shape " + shape_text(x) + ", expected " +
               (call.channels_last ? "(N, H, W, C) or (H, W, C)" : "(N, C, H, W) or (C, H, W)"));
      const int64_t* const last = x.shape + x.ndim - 3;
      batched_ = x.ndim == 4;
      call.samples = batched_ ? x.shape[0] : 1;
      call.channels = last[call.channels_last ? 2 : 0];
      for (int d = 0; d < 2; ++d) extents_[d] = last[call.channels_last ? d : d + 1];
      if constexpr (!kBackward) {
        call.rows.in = extents_[0];
        call.columns.in = extents_[1];
      } else if constexpr (kAdaptive) {
        call.rows.out = extents_[0];
        call.columns.out = extents_[1];
      }
    }
  }
  void read_columns(const Array& cols) {
    const int64_t taps = call.rows.kernel * call.columns.kernel;
    const int lines = call.channels_last ? 2 : 0;
    if (cols.ndim != 3 || cols.shape[lines] % taps != 0)
      refuse(cols.label() + " has shape " + shape_text(cols) + ", expected " +
             (call.channels_last ? "(N, windows, taps · C)" : "(C · taps, N, windows)") + " with " +
             std::to_string(taps) + " taps");
    call.channels = cols.shape[lines] / taps;
    call.samples = cols.shape[call.channels_last ? 0 : 1];
    extents_[0] = cols.shape[call.channels_last ? 1 : 2];
  }

  void count_windows(WindowAxis* a) {
    if constexpr (kAdaptive) {
      if (a->in == 0 || a->out == 0)
        refuse(this->first().label() + " has shape " + shape_text(this->first()) +
               ", expected rows and columns");
      return;
    }
    int64_t room = a->in + a->before + a->after - a->dilation * (a->kernel - 1) - 1;
    if (ceil_) room += a->stride - 1;  // the last window may reach beyond the padding
    if (room < 0 || a->in == 0)
      refuse((kBackward ? given_as("size")
                        : this->first().label() + " has shape " + shape_text(this->first())) +
             ", smaller than a window: " + window_as_given() + ", " + given_as("padding"));
    a->out = room / a->stride + 1;
    // The last window begins on the image, or on the padding before it.
    if (ceil_ && (a->out - 1) * a->stride >= a->in + a->before) --a->out;
  }

  // Where an adaptive window begins is a product.
  static bool too_many(const WindowAxis& a) {
    int64_t most = 0;
    return __builtin_mul_overflow(a.in + 1, a.out + 1, &most);
  }

  void set_result() {
    const int64_t height = kBackward ? call.rows.in : call.rows.out;
    const int64_t width = kBackward ? call.columns.in : call.columns.out;
    const int64_t taps = call.rows.kernel * call.columns.kernel;
    int64_t windows = 0, all = 0;
    if (__builtin_mul_overflow(call.rows.out, call.columns.out, &windows) ||
        __builtin_mul_overflow(std::max(windows, call.rows.in * call.columns.in), taps, &all) ||
        __builtin_mul_overflow(all, std::max(call.samples * call.channels, int64_t(1)), &all) ||
        (kAdaptive && too_many(call.rows)) || (kAdaptive && too_many(call.columns)))
      refuse(window_as_given() + others_as_given() +
             " give more than 2**63 elements; expected fewer windows");
    if (kTaken && taps > kMostTaps)
      refuse(given_as("kernel_size") + " has " + std::to_string(taps) +
             " elements, expected at most 2**24, which float32 tells apart");
    if constexpr (kBackward) {
      const bool fits = kColumns ? extents_[0] == windows
                                 : extents_[0] == call.rows.out && extents_[1] == call.columns.out;
      if (!fits)
        refuse(this->first().label() + " has shape " + shape_text(this->first()) + ", but " +
               given_as("size") + " has " + std::to_string(call.rows.out) + " by " +
               std::to_string(call.columns.out) + " windows: " + window_as_given());
    } else if constexpr (kColumns) {
      const char* const why = ": a row for each window";
      if (call.channels_last) {
        this->set(Shape::shorter, {call.samples, windows, taps * call.channels}, why);
      } else {
        this->set(Shape::shorter, {call.channels * taps, call.samples, windows}, why);
      }
      return;
    }
    int64_t shape[4] = {call.samples, call.channels, height, width};
    if (call.channels_last) {
      shape[1] = height;
      shape[2] = width;
      shape[3] = call.channels;
    }
    this->set(Shape::shorter, shape + !batched_, 3 + batched_,
              kBackward  ? ": that of the image"
              : kWeights ? ": an element for each window of 'weight'"
                         : ": an element for each window");
  }

  bool ceil_ = false, batched_ = true;
  int64_t extents_[2] = {0, 0};  // of the rows and columns, or how many windows there are
};

template <const Contract& kContract, Makes kMakes, Way kWay,
          void (*Backend::*kDriver)(const Windows&)>
py::object windows(Arguments given) {
  return WindowBorder<kContract, kMakes, kWay>(given).run(kDriver);
}
template <const Contract& kContract, Way kWay, void (*Backend::*kEven)(const Windows&),
          void (*Backend::*kUneven)(const Windows&)>
py::object adaptive(Arguments given) {
  WindowBorder<kContract, Makes::adaptive, kWay> b(given);
  return b.run(b.even() ? kEven : kUneven);
}
py::object max_pool2d(Arguments given) {
  WindowBorder<kMax, Makes::pool> b(given);
  py::object y = b.run(&Backend::max_pool2d);
  return py::make_tuple(y, b.result(kMax.position("indices")));
}

}  // namespace

void define_windows(py::module_& m) {
  using B = Backend;
  constexpr Way there = Way::forward, back = Way::backward;
  define(m, kIm2col, &fast<&windows<kIm2col, Makes::columns, there, &B::im2col>>);
  define(m, kCol2im, &fast<&windows<kCol2im, Makes::columns, back, &B::col2im>>);
  define(m, kMax, &fast<&max_pool2d>);
  define(m, kMaxBack, &fast<&windows<kMaxBack, Makes::pool, back, &B::max_pool2d_backward>>);
  define(m, kAvg, &fast<&windows<kAvg, Makes::pool, there, &B::avg_pool2d>>);
  define(m, kAvgBack, &fast<&windows<kAvgBack, Makes::pool, back, &B::avg_pool2d_backward>>);
  define(m, kAdaptive, &fast<&adaptive<kAdaptive, there, &B::avg_pool2d, &B::adaptive_avg_pool2d>>);
  define(m, kAdaptiveBack,
         &fast<&adaptive<kAdaptiveBack, back, &B::avg_pool2d_backward,
                         &B::adaptive_avg_pool2d_backward>>);
  define(m, kDepthwise,
         &fast<&windows<kDepthwise, Makes::convolution, there, &B::depthwise_conv2d>>);
  define(m, kDepthwiseBack,
         &fast<&windows<kDepthwiseBack, Makes::convolution, back, &B::depthwise_conv2d_backward>>);
  define(
      m, kDepthwiseWeight,
      &fast<
          &windows<kDepthwiseWeight, Makes::weights, there, &B::depthwise_conv2d_weight_backward>>);
}

}  // namespace onepass::bind
