#include "bind/overlap.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <numeric>

namespace onepass::bind {

Extent extent_of(const View& v) {
  auto low = reinterpret_cast<uintptr_t>(v.data), high = low + uintptr_t(v.itemsize());
  if (v.c_order) return {low, low + uintptr_t(v.size() * v.itemsize())};
  for (int d = 0; d < v.ndim; ++d) {
    if (v.shape[d] == 0) return {low, low};
    const int64_t reach = (v.shape[d] - 1) * v.stride(d);
    (reach < 0 ? low : high) += uintptr_t(reach);
  }
  return {low, high};
}

namespace {

// Is there 0 <= z_k <= most_k with sum(step_k·z_k) = target? Steps descend. Each level leaves few
// candidates where the strides nest, as those of real arrays do; the budget bounds the rest.
struct Equation {
  struct Term {
    int64_t step, most;
  };
  Term terms[2 * kMaxAxes + 1];
  int64_t reach[2 * kMaxAxes + 2];    // the most that terms k... can add up to
  int64_t divisor[2 * kMaxAxes + 2];  // of the steps of terms k...
  int count = 0;
  int budget = 10000;

  void add(int64_t step, int64_t most) {
    if (step && most) terms[count++] = {step, most};
  }
  void prepare() {
    std::sort(terms, terms + count, [](Term a, Term b) { return a.step > b.step; });
    int merged = 0;
    for (int k = 0; k < count; ++k) {
      if (merged && terms[merged - 1].step == terms[k].step) {
        terms[merged - 1].most += terms[k].most;
      } else {
        terms[merged++] = terms[k];
      }
    }
    count = merged;
    reach[count] = divisor[count] = 0;
    for (int k = count - 1; k >= 0; --k) {
      reach[k] = reach[k + 1] + terms[k].step * terms[k].most;
      divisor[k] = std::gcd(divisor[k + 1], terms[k].step);
    }
  }
  bool solvable(int64_t target, int k = 0) {
    if (target < 0 || target > reach[k]) return false;
    if (target == 0 || --budget < 0) return true;
    if (target % divisor[k]) return false;
    const int64_t step = terms[k].step;
    const int64_t first = std::max<int64_t>(0, (target - reach[k + 1] + step - 1) / step);
    const int64_t last = std::min(terms[k].most, target / step);
    for (int64_t z = last; z >= first; --z)
      if (solvable(target - z * step, k + 1)) return true;
    return false;
  }
};

}  // namespace

bool overlap(const View& a, const View& b) {
  const Extent ea = extent_of(a), eb = extent_of(b);
  if (ea.low >= eb.high || eb.low >= ea.high || ea.low == ea.high || eb.low == eb.high)
    return false;
  if (a.c_order && b.c_order) return true;
  // With every axis counted from its low end, element (i) of a lies at ea.low + sum(|s|·i), and of
  // b likewise; they share a byte if the offsets differ by less than an item:
  //   sum_a |s|·i + sum_b |s|·(n - 1 - j) + e = eb.low - ea.low + sum_b |s|·(n - 1) + item_b - 1
  // hence the extra unknown 0 <= e <= item_a + item_b - 2.
  Equation equation;
  for (const View* v : {&a, &b})
    for (int d = 0; d < v->ndim; ++d) equation.add(std::abs(v->stride(d)), v->shape[d] - 1);
  equation.add(1, a.itemsize() + b.itemsize() - 2);
  equation.prepare();
  const int64_t span = int64_t(eb.high - eb.low) - b.itemsize();
  return equation.solvable(int64_t(eb.low - ea.low) + span + b.itemsize() - 1);
}

bool same_memory(const View& a, const View& b) {
  if (a.data != b.data || a.element != b.element || a.ndim != b.ndim) return false;
  for (int d = 0; d < a.ndim; ++d)
    if (a.shape[d] != b.shape[d] || (a.shape[d] != 1 && a.stride(d) != b.stride(d))) return false;
  return true;
}

void check_overlap(const Array& written, const Array& other, bool exact_alias_allowed) {
  if (!written || !other) return;
  if (exact_alias_allowed && written.data == other.data && same_memory(written, other)) return;
  if (overlap(written, other))
    value_error(written.op,
                written.label() + " overlaps " + other.label() + " in memory" +
                    (exact_alias_allowed ? "; pass exactly the same array or a separate one"
                                         : "; pass a separate array"));
}

}  // namespace onepass::bind
