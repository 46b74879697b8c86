// The part of the DLPack ABI (version 1.x, https://dmlc.github.io/dlpack/latest/) that the border
// reads: one tensor, the two capsules that carry it, and the table of C functions that a type may
// publish as __dlpack_c_exchange_api__. Layouts are fixed by that document.
#pragma once
#include <cstdint>

namespace onepass::dlpack {

enum DeviceType : int32_t { kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13 };
enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBFloat = 4, kBool = 6 };
constexpr uint64_t kReadOnly = 1, kIsCopied = 2;  // what is written to a copy is lost

struct Version {
  uint32_t major, minor;
};
struct Device {
  DeviceType type;
  int32_t id;
};
struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null before version 1.2: dense in C order
  uint64_t byte_offset;
};

// Capsule "dltensor".
struct ManagedTensor {
  Tensor tensor;
  void* manager;
  void (*deleter)(ManagedTensor*);
};
// Capsule "dltensor_versioned".
struct ManagedTensorVersioned {
  Version version;
  void* manager;
  void (*deleter)(ManagedTensorVersioned*);
  uint64_t flags;
  Tensor tensor;
};

// Capsule "dlpack_exchange_api", DLPackExchangeAPI there. Functions return 0, or -1 with a Python
// exception set; none waits for a device.
struct ExchangeApi {
  Version version;
  ExchangeApi* previous;
  int (*allocate)(Tensor* prototype, ManagedTensorVersioned** out, void* context,
                  void (*set_error)(void* context, const char* kind, const char* message));
  int (*from_object)(void* object, ManagedTensorVersioned** out);
  int (*to_object)(ManagedTensorVersioned* tensor, void** out);
  int (*view)(void* object, Tensor* out);  // borrows; may be null
  int (*current_work_stream)(DeviceType type, int32_t id, void** out);
};

}  // namespace onepass::dlpack
