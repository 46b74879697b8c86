// Norms over channels and the bias: planes and columns, whole and split, aligned and not.
#include "backend_test.h"

namespace backend_test {
namespace {

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
  Buffer dw(c, s.channels, 12), db(c, s.channels, 13), more(d, n, 14, s.lead);
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
                   {3, 4, drops ? uint64_t(1) << 31 | 12345 : 0, s.lead ? 1003 : 0}};
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
  call.add = drops ? dx.data() : evaluates ? nullptr : more.data();
  call.dweight = dw.vector();
  call.dbias = db.vector();
  run("batch_norm_backward", cuda.channel_norm_backward[0], cuda.channelwise_workspace(call), call);
  for (const Buffer* each : {&y, &saved, &mean, &var, &dx, &dr, &dw, &db}) each->append_to(bits);

  Channelwise bias = call;
  bias.epilogue.residual = nullptr;
  bias.dresidual = nullptr;
  bias.add = nullptr;
  bias.dweight = {};
  run("bias_act", cuda.bias_act, cuda.channelwise_workspace(bias), bias);
  run("bias_act_backward", cuda.bias_act_backward, cuda.channelwise_workspace(bias), bias);
  for (const Buffer* each : {&y, &dx, &db}) each->append_to(bits);
}

// Values and gradients at the top of the range: channels whose x and g are scaled, in one kernel
// and in three; eight of 16 bits are one thread's.
void extreme_channels(std::string* bits) {
  for (const DType d : {DType::f32, DType::f64, DType::bf16})
    for (const int64_t outer : {20, 8200})
      for (const bool residual : {false, true}) {
        if (kBrief && (d == DType::f64 || !residual)) continue;
        const int64_t channels = d == DType::bf16 ? 8 : 2, n = outer * channels;
        const double top = d == DType::f64 ? 1.5e308 : 3e38;
        const DType c = computing(d);
        Buffer x(d, n, 1), y(d, n, 2), r(d, n, 3), dy(d, n, 4), dx(d, n, 5), dr(d, n, 6);
        Buffer saved(c, 3 * channels, 7), var(c, channels, 8), dw(c, channels, 9);
        Buffer db(c, channels, 10);
        for (int64_t i = 0; i < n; ++i) {
          x.set(i, i % (2 * channels) < channels ? top : -top);
          dy.set(i, i % 3 == 0 ? top : -top);
        }
        ChannelNorm call{};
        call.outer = outer;
        call.channels = channels;
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
        call.add = residual ? nullptr : r.data();
        call.dweight = dw.vector();
        call.dbias = db.vector();
        run("batch_norm_backward", cuda.channel_norm_backward[0], cuda.channelwise_workspace(call),
            call);
        for (const Buffer* each : {&y, &saved, &var, &dx, &dr, &dw, &db}) each->append_to(bits);
      }
}

// By both rules, per-channel values of 16 bits, and a batch without an element: gradients of 0,
// saved values.
void unusual_channels(std::string* bits) {
  int turn = 0;
  for (const DType d : {DType::f16, DType::bf16})
    for (const int64_t outer : {0, 0, 40, 40}) {
      const int rule = turn++ % 2;  // batch_norm, batch_renorm
      if (kBrief && d == DType::bf16) continue;
      Buffer x(d, 40 * 6, 1), y(d, 40 * 6, 2), dx(d, 40 * 6, 3);
      Buffer saved(DType::f32, rule ? 30 : 18, 4);
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
      call.rmax = 3;
      call.dmax = 5;
      run("batch_norm", cuda.channel_norm[rule], cuda.channelwise_workspace(call), call);
      call.dy = y.data();
      call.dx = dx.data();
      call.dweight = dw.vector();
      call.dbias = db.vector();
      run("batch_norm_backward", cuda.channel_norm_backward[rule], cuda.channelwise_workspace(call),
          call);
      for (int64_t i = 0; outer == 0 && i < 6; ++i) {
        check(static_cast<uint16_t*>(dw.data())[i] == 0, "an empty batch has a weight gradient");
        check(static_cast<uint16_t*>(db.data())[i] == 0, "an empty batch has a bias gradient");
      }
      for (const Buffer* each : {&saved, &mean, &var, &dw, &db}) each->append_to(bits);
      if (outer > 0) y.append_to(bits);
    }
}

// A batch in three shares, the second without an element; of values in range, and at the top.
void shared_channels(std::string* bits) {
  constexpr int64_t kChannels = 3, kShares = 3;
  for (const DType d : dtypes())
    for (const int64_t outer : {20, 8200})
      for (const bool top : {false, true}) {
        if (top && size_of(d) == 2) continue;
        if (kBrief && top) continue;
        const DType c = computing(d);
        const int64_t n = outer * kChannels;
        Buffer x(d, n, 1), y(d, n, 2), r(d, n, 3), dy(d, n, 4), dx(d, n, 5), dr(d, n, 6);
        Buffer w(c, kChannels, 7), saved(c, 3 * kChannels, 8), mean(c, kChannels, 9);
        Buffer var(c, kChannels, 10), dw(c, kChannels, 11), db(c, kChannels, 12);
        for (int64_t i = 0; top && i < n; ++i) {
          x.set(i, (i % 4 < 2 ? 1 : -1) * (d == DType::f32 ? 3e38 : 1.5e308));
          dy.set(i, (i % 3 == 0 ? 1 : -1) * (d == DType::f32 ? 3e38 : 1e290));
        }
        std::vector<double> moments(size_t(kShares * 5 * kChannels), -1.0);
        std::vector<double> sums(size_t(kShares * 3 * kChannels), -1.0);
        ChannelNorm call{};
        call.channels = kChannels;
        call.inner = 1;
        call.dtype = d;
        call.x = x.data();
        call.weight = w.vector();
        call.bias = w.vector();
        call.epilogue.options = kOptions.data();
        call.batch_statistics = true;
        call.momentum = 0.1;
        call.eps = 1e-5;
        const auto each_share = [&](std::vector<double>* all, int64_t rows, const char* name,
                                    Run<ChannelNorm> function) {
          call.part = Part::sums;
          call.share_count = 0;
          for (int64_t i = 0; i < kShares; ++i) {
            call.outer = i == 1 ? 0 : outer;
            call.shares = all->data() + i * rows * kChannels;
            run(name, function, cuda.channelwise_workspace(call), call);
          }
          call.part = Part::rest;
          call.outer = outer;
          call.shares = all->data();
          call.share_count = kShares;
          bits->append(reinterpret_cast<const char*>(all->data()), all->size() * sizeof(double));
        };
        each_share(&moments, 5, "moments", cuda.channel_norm[0]);
        call.saved = saved.data();
        call.running_mean = mean.vector();
        call.running_var = var.vector();
        call.y = y.data();
        call.epilogue.residual = r.data();
        call.epilogue.activation = Epilogue::kRelu;
        run("batch_norm of shares", cuda.channel_norm[0], cuda.channelwise_workspace(call), call);
        call.dy = dy.data();
        call.dresidual = dr.data();
        call.dweight = dw.vector();
        call.dbias = db.vector();
        each_share(&sums, 3, "sums", cuda.channel_norm_backward[0]);
        call.dweight = call.dbias = {};
        call.dx = dx.data();
        run("backward of shares", cuda.channel_norm_backward[0], cuda.channelwise_workspace(call),
            call);
        for (const Buffer* each : {&y, &saved, &mean, &var, &dx, &dr, &dw, &db})
          each->append_to(bits);
        // A batch without an element on any rank keeps the running statistics.
        for (int64_t i = 0; i < kShares * 5 * kChannels; ++i) moments[size_t(i)] = 0;
        call.shares = moments.data();
        call.outer = 0;
        call.dy = nullptr;
        const double before = mean.get(1);
        run("no elements", cuda.channel_norm[0], cuda.channelwise_workspace(call), call);
        check(mean.get(1) == before, "an empty batch moves the running statistics");
      }
}

}  // namespace

void channel_norms_part(std::string* bits) {
  shared_channels(bits);
  extreme_channels(bits);
  unusual_channels(bits);
  const Shape shapes[] = {
      {3, 2, 20, 0},    {2, 2, 7, 1},     {40, 6, 1, 0},   {9, 131, 1, 0},
      {2, 1, 9000, 0},  {2, 2, 8301, 1},  {4301, 4, 1, 0}, {2801, 3, 1, 1},
      {1101, 16, 1, 0}, {1101, 16, 1, 4}, {130, 512, 1, 0}};  // the last in clusters
  int turn = 0;
  for (const Shape& s : shapes)
    for (const DType d : dtypes()) {
      ++turn;
      channelwise(s, d, turn % 2 == 0, turn % kHeld, turn % 5 == 0, bits);
    }
}

}  // namespace backend_test
