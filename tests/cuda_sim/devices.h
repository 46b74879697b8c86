// The devices of the simulator and their contexts, as the driver has them, each with an answer of 0
// where all is well. Included by cusim.cpp alone.
#pragma once
#include <atomic>
#include <vector>

#include "cusim.h"

namespace cusim {
namespace {

constexpr int kInvalidContext = 201, kInvalidDevice = 101;  // of the driver
std::atomic<bool> made[kDevices];                           // its address is the device's context
thread_local std::vector<void*> entered;

int device_of(void* context) { return int(static_cast<std::atomic<bool>*>(context) - made); }

}  // namespace

bool has_context(int device) { return made[device]; }
bool none_is_current() { return entered.empty(); }
int current_device() { return entered.empty() ? 0 : device_of(entered.back()); }
void set_device(int device) {
  void* context = nullptr;
  retain(&context, device);
  if (entered.empty()) entered.emplace_back();
  entered.back() = context;
}
void forget_contexts() {
  for (auto& one : made) one = false;
  entered.clear();
}
void touch_context() {
  if (entered.empty()) set_device(0);
}

int get_current(void** context) {
  *context = entered.empty() ? nullptr : entered.back();
  return 0;
}
int get_device(int* device) {
  if (entered.empty()) return kInvalidContext;
  *device = current_device();
  return 0;
}
int device_at(int* device, int ordinal) {
  *device = ordinal;
  return ordinal >= 0 && ordinal < kDevices ? 0 : kInvalidDevice;
}
int retain(void** context, int device) {
  made[device] = true;
  *context = &made[device];
  return 0;
}
int push_context(void* context) {
  made[device_of(context)] = true;
  entered.push_back(context);
  return 0;
}
int pop_context(void** context) {
  if (entered.empty()) return kInvalidContext;
  *context = entered.back();
  entered.pop_back();
  return 0;
}
int describe_error(int error, const char** text) {
  *text = error == kInvalidDevice ? "invalid device ordinal" : "invalid device context";
  return 0;
}

}  // namespace cusim
