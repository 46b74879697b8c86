// Bias, batch norm and norms of rows, each with the activation and the dropout behind it.
//
// Arguments that may be absent are empty; the attribute "given" has a bit for each that is there.
#include "jax/frame.h"
#include "kernels/channel_norm_list.h"

namespace onepass::jax {
namespace {

enum Given : int64_t { kWeight = 1, kBias = 2, kResidual = 4 };

// The results of a call, in the order in which it takes them.
class Results {
 public:
  explicit Results(const Frame& f) : f_(f) {}
  Buffer next() { return f_.result(next_++); }
  ChannelVector next_vector(bool given) {
    const Buffer b = next();
    return given ? vector_of(b) : ChannelVector{};
  }

 private:
  const Frame& f_;
  int64_t next_ = 0;
};
// The arguments likewise.
class Arguments {
 public:
  explicit Arguments(const Frame& f) : f_(f), given_(f.integer("given")) {}
  bool has(Given which) const { return (given_ & which) != 0; }
  Buffer next() { return f_.argument(next_++); }
  ChannelVector next_vector(Given which) {
    const Buffer b = next();
    return has(which) ? vector_of(b) : ChannelVector{};
  }
  ChannelVector next_vector() { return vector_of(next()); }
  const void* next_residual() {
    const Buffer b = next();
    return has(kResidual) ? b.data : nullptr;
  }
  DropoutStream next_dropout() {
    const DropoutStream random = f_.dropout(next_);
    next_ += 4;
    return random;
  }

 private:
  const Frame& f_;
  int64_t given_, next_ = 0;
};

void set_activation(const Frame& f, Channelwise* call) {
  int64_t count;
  call->epilogue.activation = int32_t(f.integer("kernel"));
  call->epilogue.options = f.reals("options", &count);
}

// x as (outer, channels, inner), the channels on the axis of the attribute.
void set_channels(const Frame& f, const Buffer& x, Channelwise* call) {
  const int64_t axis = f.integer("axis");
  call->outer = x.extent(0, axis);
  call->channels = x.shape[axis];
  call->inner = x.extent(axis + 1, x.ndim);
  call->dtype = dtype_of(x);
}

// What a norm takes after dy, and its gradients.
void set_norm_backward(Arguments* in, Results* out, Channelwise* call) {
  call->weight = in->next_vector(kWeight);
  call->bias = in->next_vector(kBias);
  call->epilogue.residual = in->next_residual();
  call->dx = out->next().data;
  call->dweight = out->next_vector(in->has(kWeight));
  call->dbias = out->next_vector(in->has(kBias));
  const Buffer dresidual = out->next();
  if (in->has(kResidual)) call->dresidual = dresidual.data;
}

// Rows are the last axes of x, as many as the attribute says.
void set_rows(const Frame& f, const Buffer& x, RowNorm* call) {
  const int64_t first = x.ndim - f.integer("row_axes");
  call->outer = x.extent(0, first);
  call->channels = x.extent(first, x.ndim);
  call->groups = call->inner = 1;
  call->dtype = dtype_of(x);
}

void run_rows(const Frame& f, RowNorm* call, bool backward) {
  const Backend& cpu = lent().cpu();
  Workspace workspace;
  call->workspace = workspace.of(cpu.row_norm_workspace(*call));
  (backward ? cpu.row_norm_backward : cpu.row_norm)[f.integer("rule")](*call);
}

constexpr int kBatchNorm = host::index_in<host::BatchNormRule>(host::ChannelNorms{});

}  // namespace

// (x, bias, p, seed, offset, first) → y
void bias_act(const Frame& f) {
  Arguments in(f);
  const Buffer x = in.next();
  Channelwise call;
  set_channels(f, x, &call);
  set_activation(f, &call);
  call.x = x.data;
  call.bias = in.next_vector();
  call.epilogue.dropout = in.next_dropout();
  call.y = f.result(0).data;
  lent().cpu().bias_act(call);
}

// (dy, x, bias, p, seed, offset, first) → (dx, dbias)
void bias_act_backward(const Frame& f) {
  Arguments in(f);
  Channelwise call;
  call.dy = in.next().data;
  const Buffer x = in.next();
  set_channels(f, x, &call);
  set_activation(f, &call);
  call.x = x.data;
  call.bias = in.next_vector();
  call.epilogue.dropout = in.next_dropout();
  call.dx = f.result(0).data;
  call.dbias = vector_of(f.result(1));
  lent().cpu().bias_act_backward(call);
}

// (x, weight, bias, residual, running_mean, running_var, p, seed, offset, first)
//   → (y, saved), and in training the batch's mean and unbiased variance
void batch_norm(const Frame& f) {
  Arguments in(f);
  Results out(f);
  const Buffer x = in.next();
  ChannelNorm call;
  set_channels(f, x, &call);
  set_activation(f, &call);
  call.x = x.data;
  call.weight = in.next_vector(kWeight);
  call.bias = in.next_vector(kBias);
  call.epilogue.residual = in.next_residual();
  call.running_mean = in.next_vector();
  call.running_var = in.next_vector();
  const DropoutStream dropout = in.next_dropout();
  call.batch_statistics = f.integer("training") != 0;
  call.eps = f.real("eps");
  call.y = out.next().data;
  call.saved = out.next().data;
  if (call.batch_statistics) {
    call.epilogue.dropout = dropout;
    // Running statistics that move all the way are those of the batch.
    call.momentum = 1;
    for (ChannelVector* statistic : {&call.running_mean, &call.running_var}) {
      *statistic = vector_of(out.next());
      const bool wide = statistic->dtype == DType::f64;
      for (int64_t c = 0; c < call.channels; ++c)
        wide ? static_cast<double*>(statistic->data)[c] = 0
             : static_cast<float*>(statistic->data)[c] = 0;
    }
  }
  lent().cpu().channel_norm[kBatchNorm](call);
}

// (dy, x, weight, bias, residual, saved, p, seed, offset, first)
//   → (dx, dweight, dbias, dresidual)
void batch_norm_backward(const Frame& f) {
  Arguments in(f);
  Results out(f);
  ChannelNorm call;
  call.dy = in.next().data;
  const Buffer x = in.next();
  set_channels(f, x, &call);
  set_activation(f, &call);
  call.x = x.data;
  set_norm_backward(&in, &out, &call);
  call.saved = in.next().data;
  call.batch_statistics = f.integer("training") != 0;
  const DropoutStream dropout = in.next_dropout();
  if (call.batch_statistics) call.epilogue.dropout = dropout;
  lent().cpu().channel_norm_backward[kBatchNorm](call);
}

// (x, weight, bias, residual, p, seed, offset, first) → (y, saved)
void row_norm(const Frame& f) {
  Arguments in(f);
  const Buffer x = in.next();
  RowNorm call;
  set_rows(f, x, &call);
  set_activation(f, &call);
  call.x = x.data;
  call.weight = in.next_vector(kWeight);
  call.bias = in.next_vector(kBias);
  call.epilogue.residual = in.next_residual();
  call.epilogue.dropout = in.next_dropout();
  call.eps = f.real("eps");
  call.y = f.result(0).data;
  call.saved = f.result(1).data;
  run_rows(f, &call, false);
}

// (dy, x, weight, bias, residual, saved, p, seed, offset, first)
//   → (dx, dweight, dbias, dresidual)
void row_norm_backward(const Frame& f) {
  Arguments in(f);
  Results out(f);
  RowNorm call;
  call.dy = in.next().data;
  const Buffer x = in.next();
  set_rows(f, x, &call);
  set_activation(f, &call);
  call.x = x.data;
  set_norm_backward(&in, &out, &call);
  call.saved = in.next().data;
  call.epilogue.dropout = in.next_dropout();
  run_rows(f, &call, true);
}

}  // namespace onepass::jax
