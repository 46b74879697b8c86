// Runs every entry of the CUDA backend in the simulator, small, in three thread orders: meant for
// the sanitizers. Exits with 1 and says why when a call fails, two orders give different bits, or a
// kernel touches what lies around its arrays; values are checked by ../test_cuda_backend.py, save
// what the border does not offer: a norm that stays on the device, and labels out of range.
#include <utility>

#include "backend_test.h"
#include "cusim.h"

namespace backend_test {
namespace {

bool is_alone(int device) { return cusim::has_context(device) && !cusim::has_context(1 - device); }

void devices(std::string*) {
  cusim::forget_contexts();
  check(cuda.current_device() == 0 && cusim::none_is_current(), "asking makes a context");
  check(cuda.enter_device(1) == 1 && cuda.current_device() == 1, "device 1 is not entered");
  check(cuda.enter_device(1) == 0, "device 1 is entered twice");
  cuda.leave_device();
  check(cusim::none_is_current() && is_alone(1), "going back makes a context");
  uint32_t* word = cuda.host_word(1);
  check(word && *word == 0 && word == cuda.host_word(1), "a host word is made anew");
  check(cusim::none_is_current() && is_alone(1), "host_word leaves another device");
  check(cuda.host_word(0) != word, "devices share a host word");
  cusim::set_device(1);
  check(cuda.enter_device(1) == 0 && cuda.enter_device(0) == 1, "what is current is not seen");
  cuda.leave_device();
  check(cuda.current_device() == 1, "the caller's device is another one afterwards");
  for (const int none : {-1, 7, 64})
    check(cuda.enter_device(none) == -1 && cuda.last_error(), "a device that is not there");
  check(!cuda.host_word(-1) && cuda.last_error(), "device -1 has a word");
  cusim::forget_contexts();
}

}  // namespace
}  // namespace backend_test

int main() {
  using namespace backend_test;
  const std::pair<const char*, void (*)(std::string*)> parts[] = {
      {"elementwise", elementwise_part},
      {"masks", masks_part},
      {"updates", updates_part},
      {"counted_steps", counted_steps_part},
      {"stages", stages_part},
      {"kept", kept_part},
      {"global_norm", global_norm_part},
      {"factors", factors_part},
      {"devices", devices},
      {"channel_norms", channel_norms_part},
      {"row_norms", row_norms_part},
      {"row_losses", row_losses_part},
      {"softmax", softmax_part},
      {"windows", windows_part},
      {"pointwise_losses", pointwise_losses_part}};
  const cusim::Options orders[] = {{cusim::Order::kForward, 0, 2},
                                   {cusim::Order::kReverse, 0, 1},
                                   {cusim::Order::kRandom, 5, 3}};
  for (const auto& [name, part] : parts) {
    std::string first;
    for (const cusim::Options& order : orders) {
      cusim::set_options(order);
      std::string bits;
      part(&bits);
      if (kBrief) break;
      if (first.empty()) first = bits;
      check(bits == first, std::string(name) + ": orders differ");
    }
  }
  std::printf("fine\n");
}
