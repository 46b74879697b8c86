// Mean squares along the rows and columns of matrices, for rules with factors (core/rule.h). The
// order of the sums depends only on sizes:
//
// A matrix is cut into tiles: bands of rows, strips of kStrip columns. Within a tile, the squares
// along a row are added in kLanes lanes (column c in lane c mod kLanes), which are folded by
// halves; the squares along a column are added row by row. Then the sums of tiles are added one by
// one: for a row over its strips, for a column over its bands. All sums are in double.
//
// The mean of the rows' values adds row r to column r mod kColumns, then folds these columns by
// halves.
//
// The pass leaves a `Factored` in Elementwise::factored, followed by the rows' values divided by
// their level.
#pragma once
#include "core/sizes.h"
#include "core/squares.h"

ONEPASS_BEGIN

constexpr int64_t kStrip = 256;
constexpr int kLanes = 32;

// The column's value of a tensor without matrices: 1.
struct Factored {
  double double_one;
  float float_one;
};
constexpr int64_t kFactoredBytes = 64;

// The row's operand of Kernel and Measure.
template <class T>
ONEPASS_HD T over_level(T row, double level) {
  return T(double(row) / level);
}

struct FactorCut {
  int64_t matrices, height, width;
  int64_t strips, bands, band;  // `band` rows each

  // The cut of a tensor of `size` elements.
  ONEPASS_HD FactorCut(int64_t size, int64_t height_, int64_t width_)
      : matrices(size / larger(1, height_ * width_)),
        height(height_),
        width(width_),
        strips(ceil_div(width, kStrip)),
        bands(0),
        band(larger(64, 4096 / larger(1, width))) {
    bands = ceil_div(height, band);
  }
  ONEPASS_HD int64_t rows() const { return matrices * height; }
  ONEPASS_HD int64_t columns() const { return matrices * width; }
  // The sums of tiles: for each row those of its strips, then for each matrix those of each band.
  ONEPASS_HD int64_t sums() const { return rows() * strips + columns() * bands; }
  ONEPASS_HD int64_t row_sum(int64_t row, int64_t strip) const { return row * strips + strip; }
  ONEPASS_HD int64_t column_sum(int64_t matrix, int64_t band_number, int64_t column) const {
    return rows() * strips + (matrix * bands + band_number) * width + column;
  }
};

// The sums of tensor t of a call; none where it has no matrices.
ONEPASS_HD int64_t factor_sums(const Elementwise& call, int64_t t) {
  const Factors& own = call.factors[t];
  return FactorCut(call.tensors[t].size, own.height, own.width).sums();
}

ONEPASS_END
