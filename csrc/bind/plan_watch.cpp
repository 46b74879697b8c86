#include "bind/plan_watch.h"

#include "bind/kernel_info.h"
#include "kernels/watch.h"

namespace onepass::bind {
namespace {

constexpr int64_t kNormsBefore = int64_t(host::WatchBefore::norms.size);
constexpr int64_t kNormsAfter = int64_t(host::WatchAfter::norms.size);

}  // namespace

void PlanWatch::prepare(const Elementwise& update, size_t parameters, const Target* target) {
  constexpr size_t kOperands = 3;
  constexpr int64_t kAlignment = 64;
  parameters_ = parameters;
  tensors_.assign(update.tensors, update.tensors + update.count);
  operands_.assign(tensors_.size() * kOperands, {});
  std::vector<int64_t> places;
  int64_t bytes = 0;
  for (const Tensor& tensor : tensors_) {
    places.push_back(bytes);
    const int64_t size = tensor.size * size_of(tensor.computing);
    bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
  }
  char* copies;
  double* norms;
  const size_t count = parameters * size_t(kNormsBefore + kNormsAfter);
  if (target) {
    device_copies_ = lend(*target, std::max<int64_t>(bytes, 1), "uint8");
    device_norms_ = lend(*target, int64_t(count), "float64", true);
    copies = static_cast<char*>(pointer_of(device_copies_));
    norms = static_cast<double*>(pointer_of(device_norms_));
  } else {
    norms_.assign(count, 0);
    copies = static_cast<char*>(copies_.at_least(bytes));
    norms = norms_.data();
  }
  for (size_t t = 0; t < tensors_.size(); ++t) {
    Operand* own = operands_.data() + t * kOperands;
    own[0] = tensors_[t].operands[kParam];
    own[1] = tensors_[t].operands[kGrad];
    own[2].data = copies + places[t];
    own[2].dtype = tensors_[t].computing;
    tensors_[t].operands = own;
    tensors_[t].hyper_set = 0;
  }
  before_ = {};
  before_.tensors = tensors_.data();
  before_.count = update.count;
  before_.schedule = update.schedule;
  before_.hyper_rows = 1;
  before_.stream = update.stream;
  after_ = before_;
  before_.rider.unscale = update.rider.unscale;
  before_.rider.grad_scale = update.rider.grad_scale;
  before_.norms = norms;
  before_.norm_count = kNormsBefore;
  after_.norms = norms + parameters * size_t(kNormsBefore);
  after_.norm_count = kNormsAfter;
}

void PlanWatch::keep(const std::vector<size_t>& order, const Target* target) {
  if (target) {
    py::tuple active(order.size());
    for (size_t t = 0; t < order.size(); ++t) active[t] = order[t];
    result_ = py::make_tuple(device_norms_, active, parameters_, target->device,
                             reinterpret_cast<uintptr_t>(target->stream));
    device_copies_ = py::object();
    return;
  }
  py::list lists[kNormsBefore + kNormsAfter];
  for (py::list& list : lists)
    for (size_t i = 0; i < parameters_; ++i) list.append(py::none());
  for (const size_t i : order) {
    lists[0][i] = norms_[i * kNormsBefore];
    lists[1][i] = norms_[i * kNormsBefore + 1];
    lists[2][i] = norms_[parameters_ * kNormsBefore + i];
  }
  result_ = py::make_tuple(lists[0], lists[1], lists[2]);
}

}  // namespace onepass::bind
