// A row norm backward. Where all elements of a channel lie together, a task takes rows
// (row_norm_rows.h) or tiles of them (row_norm_tile_backward.h), and a row's sums are those of its
// channels. Otherwise it takes panels of the rows of a group and adds up their columns
// (row_norm_panels.h), in blocks that sizes decide. Last, the gradients of weight and bias are
// added up over these in order.
#pragma once
#include "cpu/row_norm_panels.h"

ONEPASS_BEGIN
namespace {
namespace row_norms {

template <class Call>
struct Backward {
  using T = typename Call::T;

  const Call& call;

  void rows(int64_t first, int64_t last, KeepBits& bits, KeepBits& again) const {
    const RowBackward<Call> by_row{call};
    const TileBackward<Call> by_tile{call};
    const int64_t end = call.begin_of(last), step = call.cut.tile_rows();
    if (!call.cut.is_short) {
      for (int64_t r = first; r < last; ++r) by_row.row(r, end, bits, again);
    } else if (!call.cut.tiles) {
      for (int64_t r = first; r < last; ++r) by_tile.channels(r, end, bits, again);
    } else if (call.cut.runs) {
      for (int64_t r = first; r < last; r += step)
        by_tile.template rows<false>(r, smaller(step, last - r), end, bits, again);
    } else {
      for (int64_t r = first; r < last; r += step)
        by_tile.template rows<true>(r, smaller(step, last - r), end, bits, again);
    }
  }
  static void row_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const int64_t first = index * call.cut.task_rows();
    const int64_t last = smaller(first + call.cut.task_rows(), call.cut.rows);
    KeepBits bits = call.keep_bits(), again = call.keep_bits();
    call.flushed_task([&] { Backward{call}.rows(first, last, bits, again); });
  }

  static void panel_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const RowCut& cut = call.cut;
    const int64_t group = index / cut.blocks, block = index % cut.blocks;
    const int64_t last = call.norm.outer * (block + 1) / cut.blocks;
    double* s = call.sums + 2 * index * cut.length;
    double* q = s + cut.length;
    for (int64_t i = 0; i < 2 * cut.length; ++i) s[i] = 0;
    KeepBits bits = call.keep_bits(), again = call.keep_bits();
    const PanelBackward<Call> panels{call};
    const int64_t most = cut.length * int64_t(sizeof(T)) <= kPanelBytes ? kPanelRows : 1;
    call.flushed_task([&] {
      for (int64_t o = call.norm.outer * block / cut.blocks; o < last; o += most) {
        const int64_t rows = smaller(most, last - o);
        if (cut.tiles && call.norm.groups == 1) {
          panels.tile_panel(o, rows, bits, again, s, q);
        } else {
          panels.panel(o * call.norm.groups + group, rows, bits, again, s, q);
        }
      }
    });
  }

  // Gradients of weight and bias of at most kUnits channels from `first` on, all in one group where
  // columns are blocks.
  void finish_channels(int64_t first, int64_t n) const {
    const RowCut& cut = call.cut;
    double s[kUnits], q[kUnits];
    for (int64_t k = 0; k < n; ++k) s[k] = q[k] = 0;
    if (cut.runs) {
      for (int64_t o = 0; o < call.norm.outer; ++o) {
        const double* of_s = call.sums + o * cut.channels + first;
        const double* of_q = of_s + cut.sums() / 2;
        for (int64_t k = 0; k < n; ++k) s[k] += of_s[k], q[k] += of_q[k];
      }
    } else {
      const int64_t inner = call.norm.inner, group = first / call.norm.channels;
      const int64_t column = (first - group * call.norm.channels) * inner;
      for (int64_t b = 0; b < cut.blocks; ++b) {
        const double* of_s = call.sums + 2 * (group * cut.blocks + b) * cut.length + column;
        const double* of_q = of_s + cut.length;
        for (int64_t k = 0; k < n; ++k)
          for (int64_t i = 0; i < inner; ++i)
            s[k] += of_s[k * inner + i], q[k] += of_q[k * inner + i];
      }
    }
    store_channels(call.norm.dbias, first, n, s);
    store_channels(call.norm.dweight, first, n, q);
  }
  // Channels of a finishing task, and tasks of a group.
  int64_t finish_step() const {
    return smaller(kUnits / 2, call.cut.runs ? call.cut.channels : call.norm.channels);
  }
  int64_t finish_tasks() const {
    return ceil_div(call.cut.runs ? call.cut.channels : call.norm.channels, finish_step());
  }
  static void finish_task(void* context, int64_t index) {
    const Call& call = *static_cast<const Call*>(context);
    const Backward self{call};
    const int64_t tasks = self.finish_tasks(), step = self.finish_step();
    const int64_t all = call.cut.runs ? call.cut.channels : call.norm.channels;
    const int64_t group = index / tasks, first = index % tasks * step;
    self.finish_channels(group * all + first, smaller(step, all - first));
  }

  void run() const {
    call.prepare();
    const bool columns = !call.cut.runs && call.wants_parameters();
    if (columns) {
      call.run(&panel_task, call.norm.groups * call.cut.blocks);
    } else {
      call.run(&row_task, ceil_div(call.cut.rows, call.cut.task_rows()));
    }
    if (call.wants_parameters())
      call.run(&finish_task, finish_tasks() * (call.cut.runs ? 1 : call.norm.groups));
  }
};

}  // namespace row_norms
}  // namespace
ONEPASS_END
