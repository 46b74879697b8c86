// Runs the table of this build's best CPU level, small, through the parts of
// tests/cuda_sim/backend_test*.cpp, and prints a hash of the results of each: on every processor
// the same. scripts/aarch64 compares them.
#include "cpu/dispatch.h"
#include "cuda_sim/backend_test.h"

namespace {

// What a device has and the CPU does without; the parts ask for it.
const onepass::Backend* table() {
  static onepass::Backend all = onepass::cpu_backend();
  const auto enough = [](auto* workspace) {
    if (!*workspace) *workspace = [](const auto&) { return int64_t(1) << 20; };
  };
  enough(&all.elementwise_workspace);
  enough(&all.measure_workspace);
  enough(&all.channelwise_workspace);
  enough(&all.row_norm_workspace);
  enough(&all.cross_entropy_workspace);
  enough(&all.pointwise_loss_workspace);
  all.last_error = [] { return static_cast<const char*>(nullptr); };
  return &all;
}

uint64_t hash_of(const std::string& bytes) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char byte : bytes) hash = (hash ^ uint8_t(byte)) * 0x100000001b3u;
  return hash;
}

}  // namespace

extern "C" const onepass::Backend* onepass_cuda_backend() { return table(); }

int main() {
  using namespace backend_test;
  on_device = false;
  const std::pair<const char*, void (*)(std::string*)> parts[] = {
      {"elementwise", elementwise_part},
      {"updates", updates_part},
      {"stages", stages_part},
      {"factors", factors_part},
      {"channel_norms", channel_norms_part},
      {"row_norms", row_norms_part},
      {"row_losses", row_losses_part},
      {"softmax", softmax_part},
      {"windows", windows_part},
      {"pointwise_losses", pointwise_losses_part}};
  for (const auto& [name, part] : parts) {
    std::string bits;
    part(&bits);
    std::printf("%s %zu bytes %016llx\n", name, bits.size(),
                static_cast<unsigned long long>(hash_of(bits)));
  }
}
