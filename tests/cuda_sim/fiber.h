// A fiber: a stack, and the switch to and from it, which it reports to the sanitizer that is
// loaded.
//
// One host thread runs everything; its own stack is the Host. Fibers are resumed by the host and
// suspend back to it, never to one another. Sanitizer functions are weak: they are null in a
// program built without that sanitizer, so one object file serves every build.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

// The switch by hand is about ten times faster than swapcontext, which asks the kernel for the
// signal mask each time.
#if !defined(__x86_64__) || defined(CUSIM_UCONTEXT)
#define CUSIM_USE_UCONTEXT 1
#include <ucontext.h>
#else
#define CUSIM_USE_UCONTEXT 0
extern "C" void cusim_switch(void** save_stack_pointer, void* load_stack_pointer);
#endif

extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void*, size_t);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void*, size_t);
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t*);
[[gnu::weak]] void __sanitizer_set_death_callback(void (*)());
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_destroy_fiber(void*);
[[gnu::weak]] void __tsan_switch_to_fiber(void*, unsigned flags);
[[gnu::weak]] void __tsan_set_fiber_name(void*, const char*);
[[gnu::weak]] void __tsan_acquire(void*);
[[gnu::weak]] void __tsan_release(void*);
}

namespace cusim {

// Without this flag a switch would order the two fibers' memory accesses and hide every race.
constexpr unsigned kNoSync = 1;

inline bool address_checked() { return __asan_poison_memory_region != nullptr; }
inline bool races_checked() { return __tsan_create_fiber != nullptr; }

inline void poison(const void* p, size_t bytes) {
  if (address_checked()) __asan_poison_memory_region(p, bytes);
}
inline void unpoison(const void* p, size_t bytes) {
  if (address_checked()) __asan_unpoison_memory_region(p, bytes);
}
inline void release(void* order) {
  if (races_checked()) __tsan_release(order);
}
inline void acquire(void* order) {
  if (races_checked()) __tsan_acquire(order);
}

// Zeroed pages from the system, given back at the end.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { unmap(); }

  char* map(size_t bytes) {
    unmap();
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) std::abort();
    bytes_ = bytes;
    return start_ = static_cast<char*>(p);
  }
  void unmap() {
    if (!start_) return;
    unpoison(start_, bytes_);
    munmap(start_, bytes_);
    start_ = nullptr;
    bytes_ = 0;
  }
  char* start() const { return start_; }
  size_t bytes() const { return bytes_; }

 private:
  char* start_ = nullptr;
  size_t bytes_ = 0;
};

struct Context {
#if CUSIM_USE_UCONTEXT
  ucontext_t registers;
#else
  void* stack_pointer;
#endif
};

inline void switch_context(Context& from, Context& to) {
#if CUSIM_USE_UCONTEXT
  swapcontext(&from.registers, &to.registers);
#else
  cusim_switch(&from.stack_pointer, to.stack_pointer);
#endif
}

// `to` will begin in `entry`, which never returns.
inline void make_context(Context& to, char* stack, size_t bytes, void (*entry)()) {
#if CUSIM_USE_UCONTEXT
  getcontext(&to.registers);
  to.registers.uc_stack.ss_sp = stack;
  to.registers.uc_stack.ss_size = bytes;
  to.registers.uc_link = nullptr;
  makecontext(&to.registers, entry, 0);
#else
  constexpr int kSavedRegisters = 6;
  void** top = reinterpret_cast<void**>(stack + bytes - 64);
  *--top = nullptr;  // where entry would return to; it also puts the stack 8 off 16, as a call does
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  to.stack_pointer = top;
#endif
}

struct Host {
  Context context;
  const void* stack_bottom = nullptr;  // of the host thread's stack, as AddressSanitizer knows it
  size_t stack_bytes = 0;
  void* tsan = nullptr;
};

class Fiber {
 public:
  // Makes the fiber ready to begin in `entry`. `stack` and `tsan`, its fiber in the eyes of
  // ThreadSanitizer, stay the caller's.
  void prepare(char* stack, size_t bytes, void (*entry)(), void* tsan) {
    stack_ = stack;
    bytes_ = bytes;
    fake_stack_ = nullptr;
    tsan_ = tsan;
    make_context(context_, stack, bytes, entry);
  }

  // Host: runs the fiber until it suspends.
  void resume(Host& host) {
    void* host_fake_stack = nullptr;
    if (address_checked()) __sanitizer_start_switch_fiber(&host_fake_stack, stack_, bytes_);
    if (races_checked()) __tsan_switch_to_fiber(tsan_, kNoSync);
    switch_context(host.context, context_);
    if (address_checked()) __sanitizer_finish_switch_fiber(host_fake_stack, nullptr, nullptr);
  }

  // Fiber: the first thing that `entry` does.
  void begin(Host& host) {
    if (address_checked())
      __sanitizer_finish_switch_fiber(nullptr, &host.stack_bottom, &host.stack_bytes);
  }

  // Fiber: back to the host. With `for_good` it will not be resumed.
  void suspend(Host& host, bool for_good) {
    if (address_checked())
      __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack_, host.stack_bottom,
                                     host.stack_bytes);
    if (races_checked()) __tsan_switch_to_fiber(host.tsan, kNoSync);
    switch_context(context_, host.context);
    if (address_checked()) __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
  }

  void* tsan() const { return tsan_; }

 private:
  Context context_;
  char* stack_ = nullptr;
  size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
  void* tsan_ = nullptr;
};

}  // namespace cusim
