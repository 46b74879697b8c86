// Norms over rows: held by a few threads and by a block, walked over by a warp, by a block and by
// many.
#include "backend_test.h"

namespace backend_test {
namespace {

struct RowShape {
  int64_t outer, groups, channels, inner;
  int lead;
};

void row_norm(const RowShape& s, DType d, int rule, bool drops, int32_t activation,
              std::string* bits) {
  const int64_t rows = s.outer * s.groups, n = rows * s.channels * s.inner;
  const int64_t channels = s.groups * s.channels;
  const DType c = computing(d);
  Buffer x(d, n, 1, s.lead), y(d, n, 2, s.lead), r(d, n, 3, s.lead), dy(d, n, 4, s.lead);
  Buffer dx(d, n, 5, s.lead), dr(d, n, 6, s.lead), saved(c, 3 * rows, 7);
  Buffer w(drops ? d : c, channels, 8), b(c, channels, 9), dw(c, channels, 10), db(c, channels, 11);
  Buffer mean(c, s.groups, 12), var(c, s.groups, 13);
  RowNorm call{};
  call.outer = s.outer;
  call.groups = s.groups;
  call.channels = s.channels;
  call.inner = s.inner;
  call.dtype = d;
  call.x = x.data();
  call.weight = w.vector();
  call.bias = b.vector();
  call.epilogue = {drops ? r.data() : nullptr,
                   activation,
                   kOptions.data(),
                   {3, 4, drops ? uint64_t(1) << 31 | 12345 : 0}};
  call.y = y.data();
  if (rule == 0) {
    call.running_mean = mean.vector();
    call.running_var = var.vector();
  }
  call.momentum = 0.1;
  call.eps = 1e-5;
  call.saved = saved.data();
  run("row_norm", cuda.row_norm[rule], cuda.row_norm_workspace(call), call);
  call.dy = dy.data();
  call.dx = dx.data();
  call.dresidual = drops ? dr.data() : nullptr;
  call.dweight = dw.vector();
  call.dbias = db.vector();
  run("row_norm_backward", cuda.row_norm_backward[rule], cuda.row_norm_workspace(call), call);
  for (const Buffer* each : {&y, &saved, &mean, &var, &dx, &dr, &dw, &db}) each->append_to(bits);
  call.dx = x.data();  // and no gradient of the weights
  call.dweight = call.dbias = {};
  run("row_norm_backward", cuda.row_norm_backward[rule], cuda.row_norm_workspace(call), call);
  x.append_to(bits);
}

// Rows at the top of the range: x and g are scaled, sums taken again.
void extreme_rows(std::string* bits) {
  for (const DType d : {DType::f32, DType::f64})
    for (const int64_t length : {20, 300, 4200}) {
      const double top = d == DType::f32 ? 3e38 : 1.5e308;
      const int64_t n = 2 * length;
      Buffer x(d, n, 1), y(d, n, 2), dy(d, n, 3), dx(d, n, 4), saved(d, 6, 5);
      for (int64_t i = 0; i < n; ++i) {
        x.set(i, i % 4 < 2 ? top : -top);
        dy.set(i, i % 3 == 0 ? top : -top);
      }
      RowNorm call{};
      call.outer = 2;
      call.channels = length;
      call.inner = 1;
      call.dtype = d;
      call.x = x.data();
      call.epilogue = {nullptr, Epilogue::kRelu, kOptions.data(), {0, 0, 0}};
      call.y = y.data();
      call.eps = 1e-5;
      call.saved = saved.data();
      run("row_norm", cuda.row_norm[0], cuda.row_norm_workspace(call), call);
      for (int64_t i = 0; i < n; ++i)
        check(std::isfinite(y.get(i)), "a row at the top is not finite");
      call.dy = dy.data();
      call.dx = dx.data();
      run("row_norm_backward", cuda.row_norm_backward[0], cuda.row_norm_workspace(call), call);
      for (int64_t i = 0; i < n; ++i)
        check(std::isfinite(dx.get(i)), "a gradient at the top is not");
      for (const Buffer* each : {&y, &saved, &dx}) each->append_to(bits);
    }
}

}  // namespace

void row_norms_part(std::string* bits) {
  if (!kBrief) extreme_rows(bits);
  const RowShape shapes[] = {{5, 1, 33, 1, 0},   {70, 1, 64, 1, 0},   {3, 1, 520, 1, 1},
                             {2, 1, 4104, 1, 0}, {1, 2, 17000, 1, 0}, {2, 2, 3, 8, 0},
                             {2, 2, 5, 7, 1},    {1, 2, 2, 1040, 0},  {1, 1, 2, 9000, 0},
                             {1, 5, 1, 64, 0}};
  int turn = 0;
  for (const RowShape& s : shapes)
    for (const DType d : dtypes()) {
      ++turn;
      if (kBrief && s.channels * s.inner > 600) continue;  // minutes under ThreadSanitizer
      row_norm(s, d, turn % 3, turn % 2 == 0, turn % kHeld, bits);
    }
}

}  // namespace backend_test
