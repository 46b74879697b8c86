// Runs every entry of the CUDA backend in the simulator, small, in three thread orders: meant for
// the sanitizers. Exits with 1 and says why when a call fails, two orders give different bits, or a
// kernel touches what lies around its arrays; values are checked by ../test_cuda_backend.py, save
// what the border does not offer: a norm that stays on the device, and labels out of range.
#include <utility>

#include "backend_test.h"
#include "cusim.h"

namespace backend_test {
namespace {

void devices(std::string*) {
  check(cuda.use_device(1) == 0 && cuda.use_device(0) == 1, "use_device does not say what was");
  check(cuda.use_device(-1) == 0 && cuda.use_device(-1) == 0, "asking for the device changes it");
  check(cuda.use_device(7) == -1 && cuda.last_error() != nullptr, "device 7 exists");
  uint32_t* word = cuda.host_word(1);
  check(word && *word == 0 && word == cuda.host_word(1), "a host word is made anew");
  check(cuda.host_word(0) != word, "devices share a host word");
  check(cuda.use_device(0) == 0, "host_word leaves another device");
  check(!cuda.host_word(-1) && cuda.last_error() != nullptr, "device -1 has a word");
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
