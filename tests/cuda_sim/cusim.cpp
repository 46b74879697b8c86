// The scheduler of the simulator. Compiled without any sanitizer, in every build: its own reads and
// writes are not a kernel's, and it describes fibers and barriers to the sanitizers itself.
//
// ThreadSanitizer learns this order: the host comes before each block, and each thread before the
// host's return from launch; block_sync, cluster_sync, warp_sync and pairs of fence and atomic
// order threads. Nothing orders two blocks but a cluster_sync of theirs, so they may race although
// they run one after the other.
#include "cusim.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "devices.h"
#include "fiber.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#error "compile cusim.cpp without -fsanitize: it finds the sanitizer's runtime by itself"
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

#if !CUSIM_USE_UCONTEXT
// Saves what the System V ABI asks a function to keep, and takes the other stack.
asm(R"(
.text
.globl cusim_switch
.hidden cusim_switch
.type cusim_switch, @function
cusim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cusim_switch, .-cusim_switch
)");
#endif

namespace cusim {
namespace {

constexpr unsigned kLanes = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxCluster = 8;                  // what every device with clusters has
constexpr size_t kSharedBytes = 48 << 10;            // of a block, static and dynamic together
constexpr size_t kSharedBytesOnRequest = 227 << 10;  // after allow_dynamic_shared, on sm_90

constexpr size_t kMaxFibers = 6000;  // alive at once; ThreadSanitizer ends at 8128 threads
constexpr size_t kPage = 4096;
constexpr size_t kStackBytes = 128 << 10;
constexpr size_t kRedZone = 32;         // poisoned bytes around each shared variable
constexpr size_t kRedZones = 16 << 10;  // room for all of them

// xorshift64*: the same order with every compiler, which std::shuffle does not promise.
class Random {
 public:
  explicit Random(uint64_t seed) : state_((seed + 1) * 0x9e3779b97f4a7c15u) {}

  void shuffle(std::vector<size_t>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  size_t below(size_t n) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return size_t((state_ * 0x2545f4914f6cdd1du) >> 32) % n;
  }

  uint64_t state_;
};

enum class State { kReady, kAtBarrier, kAtClusterBarrier, kAtWarpOperation, kReturned };
enum class WarpOperation { kSync, kBallot, kShuffle };

// A copy that has been started.
struct Copy {
  void* to;
  const void* from;
  size_t group;
  Site site;
};

struct Thread {
  Fiber fiber;
  uint3 index;
  unsigned warp, lane;
  State state = State::kReady;
  Site site{};  // of the barrier or warp operation it waits at

  uint64_t bits = 0;  // what it brings to a warp operation, then what it takes away
  int source = 0;     // the lane a shuffle reads

  std::vector<Copy> copies;  // on their way
  size_t groups = 0;         // of copies, committed so far

  // For ThreadSanitizer.
  bool has_fenced = false;
  uint64_t last_fence = 0;  // a sync object: what the thread had done by then
  std::vector<const void*> atomics_since_fence;
};

// Lanes of one mask that wait for the others.
struct Meeting {
  unsigned mask, arrived;
  WarpOperation operation;
  Site site;
};

struct Warp {
  unsigned absent = 0;  // lanes that have returned or never existed
  std::vector<Meeting> meetings;
};

struct SharedVariable {
  const void* key;
  char* address;
  size_t bytes;
};

// For ThreadSanitizer, which takes 0.3 ms to make a fiber: it and its stack serve one thread of
// each launch, since launches are ordered.
struct Seat {
  Memory stack;
  void* fiber = nullptr;
};

// Where a block of a cluster is at work.
struct Room {
  Memory stacks, shared;
};

// Shared by the blocks of one launch.
struct Launch {
  const Call& call;
  const Options options;
  const size_t threads, dynamic_bytes, shared_limit, cluster;
  Room* rooms;  // one for each block of a cluster
  Random random;
  Host host;
  size_t seats_taken = 0;
};

// The process's state between launches.
struct Simulator {
  std::mutex launching;  // held by the launch at work, guards the memory
  Room rooms[kMaxCluster];
  std::deque<Seat> seats;
  uint64_t host_done = 0;     // a sync object: all that the host has done before the block at work
  uint64_t threads_done = 0;  // another: all that CUDA threads have done

  std::mutex settings;  // guards what follows
  Options options;
  std::string error;
  std::map<const void*, size_t> allowed_dynamic;
};
Simulator simulator;

std::string format(uint3 i) {
  return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
}

std::string format(Site site) { return std::string(site.file) + ":" + std::to_string(site.line); }

bool same(Site a, Site b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

uint3 position(size_t i, dim3 size) {
  return {unsigned(i % size.x), unsigned(i / size.x % size.y), unsigned(i / size.x / size.y)};
}

// A block at work. CUDA threads do no bookkeeping themselves: they leave an errand and switch to
// the host. So nothing is allocated by one fiber and freed by another, which ThreadSanitizer would
// take for a race.
class Block {
 public:
  Block(Launch& launch, uint3 index, const std::vector<std::unique_ptr<Block>>& cluster);
  ~Block();
  bool turn();
  bool all_are(State state) const;
  bool meets(const Block& other) const;
  static void pass_cluster_barrier(const std::vector<std::unique_ptr<Block>>& blocks);
  void get_stuck();
  const std::string& error() const { return error_; }
  std::string current() const { return self_ ? name(*self_) : "no thread"; }

  // Device functions, called by the running CUDA thread.
  Thread& self() { return *self_; }
  [[noreturn]] void fail(const char* what, Site site);
  void block_sync(Site site);
  void cluster_sync(Site site);
  void warp_operation(WarpOperation operation, unsigned mask, Site site);
  void fence();
  void before_atomic(const void* address);
  void after_atomic(const void* address);
  void* shared_memory(const void* key, size_t bytes, Site site);
  char* dynamic_shared_memory() { return room_.shared.start() + kRedZone; }
  const void* shared_memory_of(const void* own, unsigned rank, Site site);
  void start_copy(void* to, const void* from, Site site);
  void commit_copies();
  bool next_copy(size_t groups_left, void** to, const void** from);

 private:
  void prepare_stacks();
  void prepare_shared();
  Seat& take_seat();
  static void thread_main();

  bool run_each_ready();
  bool run_warp_by_warp();
  bool run_if_ready(Thread& thread);
  template <class Work>
  void on_host(const Work& work);
  template <class Work>
  void as(Thread& thread, const Work& work);
  static void order(const std::vector<Thread*>& threads);

  void pass_barrier();
  void arrive(WarpOperation operation, unsigned mask);
  void complete(const Meeting& meeting);
  void leave();
  void* new_shared_variable(const void* key, size_t bytes, Site site);

  void set_error(const std::string& what, const Thread& thread, Site site);
  std::string name(const Thread& thread) const;

  Launch& launch_;
  const uint3 index_;
  const std::vector<std::unique_ptr<Block>>& cluster_;  // its blocks, this one among them
  Room& room_;
  const size_t first_seat_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<size_t> turns_;  // thread numbers
  Thread* self_ = nullptr;
  void (*errand_)(const void* work) = nullptr;
  const void* work_ = nullptr;
  std::vector<SharedVariable> variables_;
  size_t static_bytes_ = 0;
  char* shared_top_ = nullptr;
  std::string error_;
};

Block* running = nullptr;  // of the launch at work

Block::Block(Launch& launch, uint3 index, const std::vector<std::unique_ptr<Block>>& cluster)
    : launch_(launch),
      index_(index),
      cluster_(cluster),
      room_(launch.rooms[cluster.size()]),
      first_seat_(launch.seats_taken),
      threads_(launch.threads),
      warps_((launch.threads + kLanes - 1) / kLanes),
      turns_(launch.threads) {
  prepare_stacks();
  prepare_shared();
  release(&simulator.host_done);
  for (size_t i = 0; i < threads_.size(); ++i) {
    turns_[i] = launch.options.order == Order::kReverse ? threads_.size() - 1 - i : i;
    Thread& thread = threads_[i];
    thread.index = position(i, blockDim);
    thread.warp = unsigned(i) / kLanes;
    thread.lane = unsigned(i) % kLanes;
    if (!races_checked()) {
      char* stack = room_.stacks.start() + i * (kPage + kStackBytes) + kPage;
      thread.fiber.prepare(stack, kStackBytes, thread_main, nullptr);
      continue;
    }
    const Seat& seat = take_seat();
    thread.fiber.prepare(seat.stack.start() + kPage, kStackBytes, thread_main, seat.fiber);
    __tsan_set_fiber_name(seat.fiber, name(thread).c_str());
    as(thread, [] { acquire(&simulator.host_done); });
  }
  if (const unsigned lanes = threads_.size() % kLanes) warps_.back().absent = ~0u << lanes;
}

void Block::prepare_stacks() {
  const size_t bytes = threads_.size() * (kPage + kStackBytes);
  if (races_checked() || room_.stacks.bytes() >= bytes) return;
  char* start = room_.stacks.map(bytes);
  // Overrunning a stack faults on the page below it.
  for (size_t i = 0; i < threads_.size(); ++i)
    mprotect(start + i * (kPage + kStackBytes), kPage, PROT_NONE);
}

// Two threads that nothing orders and that use one address are a race, and so are threads of two
// blocks on one stack: each thread of a launch has its own.
Seat& Block::take_seat() {
  if (launch_.seats_taken == simulator.seats.size()) {
    char* start = simulator.seats.emplace_back().stack.map(kPage + kStackBytes);
    mprotect(start, kPage, PROT_NONE);
  }
  Seat& seat = simulator.seats[launch_.seats_taken++];
  if (!seat.fiber) seat.fiber = __tsan_create_fiber(0);
  return seat;
}

// Garbage is 0xff: NaN in every floating-point type, -1 as an integer.
void Block::prepare_shared() {
  const size_t dynamic_end = kRedZone + (launch_.dynamic_bytes + 15) / 16 * 16;
  const size_t bytes = dynamic_end + kSharedBytes + kRedZones;
  if (races_checked() || room_.shared.bytes() < bytes) room_.shared.map(bytes);
  char* start = room_.shared.start();
  unpoison(start, room_.shared.bytes());
  std::memset(start, 0xff, bytes);
  poison(start, room_.shared.bytes());
  unpoison(start + kRedZone, launch_.dynamic_bytes);
  shared_top_ = start + dynamic_end + kRedZone;
}

Block::~Block() {
  for (Thread& thread : threads_) as(thread, [] { release(&simulator.threads_done); });
  if (all_are(State::kReturned)) return;
  // Frames are left on the stacks.
  unpoison(room_.stacks.start(), room_.stacks.bytes());
  for (size_t i = 0; races_checked() && i < threads_.size(); ++i) {
    Seat& seat = simulator.seats[first_seat_ + i];
    __tsan_destroy_fiber(seat.fiber);
    seat.fiber = nullptr;
  }
}

void Block::thread_main() {
  Block& block = *running;
  block.self().fiber.begin(block.launch_.host);
  block.launch_.call.run(block.launch_.call);
  block.self().state = State::kReturned;
  block.errand_ = [](const void*) { running->leave(); };
  block.self().fiber.suspend(block.launch_.host, true);
  std::abort();
}

// ---- Taking turns ----

bool Block::all_are(State state) const {
  return std::all_of(threads_.begin(), threads_.end(),
                     [=](const Thread& thread) { return thread.state == state; });
}

// As far as the block goes by itself; returns whether it went at all.
bool Block::turn() {
  running = this;
  blockIdx = index_;
  bool moved = false;
  for (bool more = true; more && error_.empty(); moved |= more) {
    more = launch_.options.order == Order::kRandom ? run_each_ready() : run_warp_by_warp();
    if (more || !all_are(State::kAtBarrier)) continue;
    pass_barrier();
    more = true;
  }
  return moved;
}

bool Block::run_each_ready() {
  launch_.random.shuffle(turns_);
  bool moved = false;
  for (size_t i : turns_) moved |= run_if_ready(threads_[i]);
  return moved;
}

// Each warp as far as it goes: most like a GPU, and kind to the cache.
bool Block::run_warp_by_warp() {
  bool moved = false;
  for (size_t first = 0; first < turns_.size(); first += kLanes) {
    const size_t last = std::min(first + kLanes, turns_.size());
    for (bool more = true; more;) {
      more = false;
      for (size_t i = first; i < last; ++i) more |= run_if_ready(threads_[turns_[i]]);
      moved |= more;
    }
  }
  return moved;
}

bool Block::run_if_ready(Thread& thread) {
  if (thread.state != State::kReady || !error_.empty()) return false;
  self_ = &thread;
  threadIdx = thread.index;
  do {
    errand_ = nullptr;
    thread.fiber.resume(launch_.host);
    if (errand_) errand_(work_);
  } while (errand_ && thread.state == State::kReady && error_.empty());
  self_ = nullptr;
  return true;
}

// CUDA thread: has the host do `work` and goes on when it is Ready.
template <class Work>
void Block::on_host(const Work& work) {
  errand_ = [](const void* w) { (*static_cast<const Work*>(w))(); };
  work_ = &work;
  self_->fiber.suspend(launch_.host, false);
}

// Host: does `work` in the eyes of ThreadSanitizer as `thread`.
template <class Work>
void Block::as(Thread& thread, const Work& work) {
  if (!races_checked()) return;
  __tsan_switch_to_fiber(thread.fiber.tsan(), kNoSync);
  work();
  __tsan_switch_to_fiber(launch_.host.tsan, kNoSync);
}

// Host: all that these threads have done comes before all that they will do.
void Block::order(const std::vector<Thread*>& threads) {
  if (!races_checked()) return;
  // On the heap, because ThreadSanitizer forgets about memory that is freed.
  const auto meeting = std::make_unique<uint64_t>();
  for (Thread* thread : threads) running->as(*thread, [&] { release(meeting.get()); });
  for (Thread* thread : threads) running->as(*thread, [&] { acquire(meeting.get()); });
}

// ---- Barriers and warp operations ----

void Block::block_sync(Site site) {
  self_->site = site;
  on_host([this] { self_->state = State::kAtBarrier; });
}

void Block::pass_barrier() {
  std::vector<Thread*> all;
  for (Thread& thread : threads_) {
    if (!same(thread.site, threads_.front().site)) return get_stuck();
    all.push_back(&thread);
  }
  order(all);
  for (Thread& thread : threads_) thread.state = State::kReady;
}

void Block::cluster_sync(Site site) {
  self_->site = site;
  on_host([this] { self_->state = State::kAtClusterBarrier; });
}

// Whether all threads of both blocks wait for their cluster at one place.
bool Block::meets(const Block& other) const {
  return std::all_of(threads_.begin(), threads_.end(), [&](const Thread& thread) {
    return thread.state == State::kAtClusterBarrier &&
           same(thread.site, other.threads_.front().site);
  });
}

void Block::pass_cluster_barrier(const std::vector<std::unique_ptr<Block>>& blocks) {
  std::vector<Thread*> all;
  for (const auto& block : blocks)
    for (Thread& thread : block->threads_) all.push_back(&thread);
  order(all);
  for (Thread* thread : all) thread->state = State::kReady;
}

void Block::warp_operation(WarpOperation operation, unsigned mask, Site site) {
  self_->site = site;
  on_host([=] { arrive(operation, mask); });
}

void Block::arrive(WarpOperation operation, unsigned mask) {
  Warp& warp = warps_[self_->warp];
  const Site site = self_->site;
  const unsigned lane = 1u << self_->lane;
  if (!(mask & lane))
    return set_error("the mask of a warp operation lacks the calling lane", *self_, site);
  if (mask & warp.absent)
    return set_error("the mask of a warp operation names a lane that has returned or never was",
                     *self_, site);
  auto meeting = std::find_if(warp.meetings.begin(), warp.meetings.end(),
                              [mask](const Meeting& m) { return m.mask == mask; });
  if (meeting == warp.meetings.end())
    meeting = warp.meetings.insert(meeting, {mask, 0, operation, site});
  if (meeting->operation != operation || !same(meeting->site, site))
    return set_error("lanes of one mask are in different warp operations, one at " +
                         format(meeting->site) + ", another",
                     *self_, site);
  meeting->arrived |= lane;
  self_->state = State::kAtWarpOperation;
  if (meeting->arrived != mask) return;
  const Meeting full = *meeting;
  warp.meetings.erase(meeting);
  complete(full);
}

void Block::complete(const Meeting& meeting) {
  Thread* lanes = &threads_[self_->warp * kLanes];
  std::vector<Thread*> met;
  uint64_t brought[kLanes] = {};
  unsigned ballot = 0;
  for (unsigned i = 0; i < kLanes; ++i) {
    if (!(meeting.mask >> i & 1)) continue;
    met.push_back(&lanes[i]);
    brought[i] = lanes[i].bits;
    if (brought[i]) ballot |= 1u << i;
  }
  if (meeting.operation == WarpOperation::kSync) order(met);  // the others order nothing
  for (Thread* thread : met) {
    thread->state = State::kReady;
    thread->bits = ballot;
    if (meeting.operation != WarpOperation::kShuffle) continue;
    const int source = thread->source;
    if (source < 0 || source >= int(kLanes) || !(meeting.mask >> source & 1))
      return set_error("a shuffle reads lane " + std::to_string(source) + ", not in its mask",
                       *thread, meeting.site);
    thread->bits = brought[source];
  }
}

// The running thread has returned.
void Block::leave() {
  Warp& warp = warps_[self_->warp];
  const unsigned lane = 1u << self_->lane;
  for (const Meeting& meeting : warp.meetings)
    if (meeting.mask & lane)
      set_error("a lane has returned that the mask of a warp operation names", *self_,
                meeting.site);
  warp.absent |= lane;
  for (const Copy& copy : self_->copies)
    set_error("a thread returns before a copy of its own has come", *self_, copy.site);
}

// ---- Copies ----

void Block::start_copy(void* to, const void* from, Site site) {
  on_host([=] { self_->copies.push_back({to, from, self_->groups, site}); });
}

void Block::commit_copies() {
  on_host([this] { ++self_->groups; });
}

bool Block::next_copy(size_t groups_left, void** to, const void** from) {
  bool found = false;
  on_host([&] {
    auto& copies = self_->copies;
    const auto next = std::find_if(copies.begin(), copies.end(), [&](const Copy& copy) {
      return copy.group + groups_left < self_->groups;
    });
    if (next == copies.end()) return;
    found = true;
    *to = next->to;
    *from = next->from;
    copies.erase(next);
  });
  return found;
}

// ---- Fences and atomics ----
// An atomic alone orders nothing. After a fence, an atomic publishes at its address what the thread
// had done by that fence; a fence after an atomic takes over what has been published at its
// address.

void Block::fence() {
  if (!races_checked()) return;
  on_host([this] {
    as(*self_, [this] {
      for (const void* address : self_->atomics_since_fence) acquire(const_cast<void*>(address));
      release(&self_->last_fence);
    });
    self_->atomics_since_fence.clear();
    self_->has_fenced = true;
  });
}

void Block::before_atomic(const void* address) {
  if (!races_checked() || !self_->has_fenced) return;
  on_host([=] {
    // The thread itself would publish all that it has done by now. A messenger that knows what was
    // done at the fence and nothing later goes in its place.
    void* messenger = __tsan_create_fiber(0);
    __tsan_switch_to_fiber(messenger, kNoSync);
    acquire(&self_->last_fence);
    release(const_cast<void*>(address));
    __tsan_switch_to_fiber(launch_.host.tsan, kNoSync);
    __tsan_destroy_fiber(messenger);
  });
}

void Block::after_atomic(const void* address) {
  if (!races_checked()) return;
  on_host([=] {
    auto& seen = self_->atomics_since_fence;
    if (std::find(seen.begin(), seen.end(), address) == seen.end()) seen.push_back(address);
  });
}

// ---- Shared memory ----

void* Block::shared_memory(const void* key, size_t bytes, Site site) {
  for (const SharedVariable& variable : variables_)
    if (variable.key == key) return variable.address;
  void* address = nullptr;
  on_host([&] { address = new_shared_variable(key, bytes, site); });
  return address;
}

void* Block::new_shared_variable(const void* key, size_t bytes, Site site) {
  char* address = shared_top_;
  static_bytes_ += bytes;
  shared_top_ += (bytes + 15) / 16 * 16 + kRedZone;
  if (static_bytes_ > kSharedBytes) {
    set_error("more than 48 KiB of static shared memory", *self_, site);
  } else if (static_bytes_ + launch_.dynamic_bytes > launch_.shared_limit) {
    set_error("static and dynamic shared memory together need allow_dynamic_shared", *self_, site);
  } else if (shared_top_ > room_.shared.start() + room_.shared.bytes()) {
    set_error("too many shared variables for the simulator", *self_, site);
  } else {
    unpoison(address, bytes);
    variables_.push_back({key, address, bytes});
  }
  return address;
}

// By name and not by place: blocks may come to their variables in another order.
const void* Block::shared_memory_of(const void* own, unsigned rank, Site site) {
  const char* address = static_cast<const char*>(own);
  const void* found = nullptr;
  on_host([&] {
    if (rank >= cluster_.size()) {
      return set_error("a rank of " + std::to_string(rank) + " in a cluster of " +
                           std::to_string(cluster_.size()) + " blocks",
                       *self_, site);
    }
    Block& other = *cluster_[rank];
    if (other.all_are(State::kReturned))
      return set_error("shared memory is read of a block that has ended", *self_, site);
    const auto dynamic = size_t(address - dynamic_shared_memory());
    if (dynamic < launch_.dynamic_bytes) {
      found = other.dynamic_shared_memory() + dynamic;
      return;
    }
    for (const SharedVariable& variable : variables_) {
      const auto offset = size_t(address - variable.address);
      if (offset >= variable.bytes) continue;
      for (const SharedVariable& its : other.variables_)
        if (its.key == variable.key) found = its.address + offset;
      if (!found)
        found = static_cast<char*>(other.new_shared_variable(variable.key, variable.bytes, site)) +
                offset;
      return;
    }
    set_error("this is not shared memory of the calling block", *self_, site);
  });
  return found;
}

// ---- Messages ----

std::string Block::name(const Thread& thread) const {
  return "thread " + format(thread.index) + " of block " + format(index_);
}

void Block::set_error(const std::string& what, const Thread& thread, Site site) {
  if (error_.empty()) error_ = what + ": " + name(thread) + " at " + format(site);
}

void Block::fail(const char* what, Site site) {
  on_host([=] { set_error(what, *self_, site); });
  std::abort();  // the host does not resume a failed block
}

// One waiting thread for each place where some wait.
void Block::get_stuck() {
  error_ = "threads wait for others that do not come";
  std::vector<Site> shown;
  size_t returned = 0;
  for (const Thread& thread : threads_) {
    returned += thread.state == State::kReturned;
    if (thread.state == State::kReturned ||
        std::any_of(shown.begin(), shown.end(), [&](Site s) { return same(s, thread.site); }))
      continue;
    shown.push_back(thread.site);
    error_ += std::string(thread.state == State::kAtBarrier          ? "; in block_sync"
                          : thread.state == State::kAtClusterBarrier ? "; in cluster_sync"
                                                                     : "; in a warp operation") +
              ": " + name(thread) + " at " + format(thread.site);
  }
  error_ += "; " + std::to_string(returned) + " returned";
}

// A sanitizer's report names the line; this adds the CUDA thread.
void name_thread() {
  if (running) std::fprintf(stderr, "cusim: in %s\n", running->current().c_str());
}

// ---- Launching ----

bool valid(dim3 grid, dim3 block) {
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 &&
         grid.z <= 65535 && block.x > 0 && block.y > 0 && block.z > 0 && block.x <= kMaxThreads &&
         block.y <= kMaxThreads && block.z <= 64 &&
         size_t(block.x) * block.y * block.z <= kMaxThreads;
}

// Runs the blocks of one cluster; returns the error.
std::string run_cluster(Launch& launch, size_t cluster) {
  std::vector<std::unique_ptr<Block>> blocks;
  for (size_t i = 0; i < launch.cluster; ++i) {
    blockIdx = position(cluster * launch.cluster + i, gridDim);
    blocks.push_back(std::make_unique<Block>(launch, blockIdx, blocks));
  }
  std::vector<size_t> turns(blocks.size());
  for (size_t i = 0; i < turns.size(); ++i)
    turns[i] = launch.options.order == Order::kReverse ? turns.size() - 1 - i : i;
  const auto each = [&](auto condition) {
    return std::all_of(blocks.begin(), blocks.end(), condition);
  };
  using Each = const std::unique_ptr<Block>&;
  while (!each([](Each block) { return block->all_are(State::kReturned); })) {
    if (launch.options.order == Order::kRandom) launch.random.shuffle(turns);
    bool moved = false;
    for (const size_t i : turns) {
      moved |= blocks[i]->turn();
      if (!blocks[i]->error().empty()) return blocks[i]->error();
    }
    if (moved) continue;
    if (each([&](Each block) { return block->meets(*blocks[0]); })) {
      Block::pass_cluster_barrier(blocks);
      continue;
    }
    // One that waits, if possible for what the others passed by.
    for (Each block : blocks)
      if (!block->all_are(State::kReturned)) {
        block->get_stuck();
        return block->error();
      }
  }
  return "";
}

std::string run_blocks(Launch& launch) {
  std::vector<size_t> order(size_t(gridDim.x) * gridDim.y * gridDim.z / launch.cluster);
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = launch.options.order == Order::kReverse ? order.size() - 1 - i : i;
  if (launch.options.order == Order::kRandom) launch.random.shuffle(order);
  for (const size_t i : order) {
    const std::string error = run_cluster(launch, i);
    running = nullptr;
    if (!error.empty()) return error;
    // ThreadSanitizer orders a block after an earlier one that had its fibers.
    if (launch.seats_taken + launch.cluster * kMaxThreads > kMaxFibers) launch.seats_taken = 0;
  }
  return "";
}

void set_error(const std::string& error) {
  std::lock_guard<std::mutex> lock(simulator.settings);
  simulator.error = error;
}

// The block at work, for device functions.
Block& block() {
  if (!running) {
    std::fputs("cusim: a device function was called outside a kernel\n", stderr);
    std::abort();
  }
  return *running;
}

}  // namespace

Options options() {
  std::lock_guard<std::mutex> lock(simulator.settings);
  return simulator.options;
}

void set_options(const Options& options) {
  std::lock_guard<std::mutex> lock(simulator.settings);
  simulator.options = options;
}

std::string last_error() {
  std::lock_guard<std::mutex> lock(simulator.settings);
  return simulator.error;
}

const char* error_string(cudaError_t error) {
  // Per host thread, so that the pointer stays good while another one launches.
  static thread_local std::string text;
  if (error == cudaSuccess) return "no error";
  text = last_error();
  return text.c_str();
}

cudaError_t allow_dynamic_shared(const void* kernel, size_t bytes) {
  if (bytes > kSharedBytesOnRequest) return cudaErrorInvalidValue;
  std::lock_guard<std::mutex> lock(simulator.settings);
  simulator.allowed_dynamic[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t launch(const Call& call, dim3 grid, dim3 block, size_t dynamic_bytes,
                   unsigned cluster) {
  touch_context();
  std::lock_guard<std::mutex> lock(simulator.launching);
  if (!valid(grid, block)) {
    set_error("launch: a grid of " + format({grid.x, grid.y, grid.z}) + " blocks of " +
              format({block.x, block.y, block.z}) + " threads is not possible");
    return cudaErrorInvalidConfiguration;
  }
  if (cluster == 0 || cluster > kMaxCluster || grid.x % cluster != 0 ||
      (cluster > 1 && !options().clusters)) {
    set_error("launch: a grid of " + format({grid.x, grid.y, grid.z}) + " blocks in clusters of " +
              std::to_string(cluster) + " is not possible");
    return cudaErrorInvalidConfiguration;
  }
  size_t allowed = kSharedBytes, limit = kSharedBytes;
  {
    std::lock_guard<std::mutex> settings(simulator.settings);
    const auto found = simulator.allowed_dynamic.find(call.kernel);
    if (found != simulator.allowed_dynamic.end()) {
      allowed = found->second;
      limit = kSharedBytesOnRequest;
    }
  }
  if (dynamic_bytes > allowed) {
    set_error("launch: " + std::to_string(dynamic_bytes) +
              " bytes of dynamic shared memory need allow_dynamic_shared");
    return cudaErrorInvalidValue;
  }
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(name_thread);

  const Options chosen = options();
  Launch launch{call,
                chosen,
                size_t(block.x) * block.y * block.z,
                dynamic_bytes,
                limit,
                cluster,
                simulator.rooms,
                Random(chosen.seed),
                {}};
  if (races_checked()) launch.host.tsan = __tsan_get_current_fiber();
  count(&counts.launches, 1);
  gridDim = grid;
  blockDim = block;
  const std::string error = run_blocks(launch);
  acquire(&simulator.threads_done);
  set_error(error);
  return error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

namespace {

std::atomic<bool> recording{false};
Recording recorded;

}  // namespace

bool is_recording() { return recording; }
void start_recording() { recording = true; }
Recording stop_recording() {
  recording = false;
  return std::exchange(recorded, {});
}
void record(std::function<cudaError_t()> launch) { recorded.push_back(std::move(launch)); }

void block_sync(Site site) { block().block_sync(site); }
void cluster_sync(Site site) { block().cluster_sync(site); }

void warp_sync(unsigned mask, Site site) {
  block().warp_operation(WarpOperation::kSync, mask, site);
}

unsigned ballot(unsigned mask, bool predicate, Site site) {
  Thread& self = block().self();
  self.bits = predicate;
  block().warp_operation(WarpOperation::kBallot, mask, site);
  return unsigned(self.bits);
}

uint64_t shuffle_bits(unsigned mask, uint64_t bits, int source, Site site) {
  Thread& self = block().self();
  self.bits = bits;
  self.source = source;
  block().warp_operation(WarpOperation::kShuffle, mask, site);
  return self.bits;
}

int lane() { return int(block().self().lane); }
void fence() { block().fence(); }
void before_atomic(const void* address) { block().before_atomic(address); }
void after_atomic(const void* address) { block().after_atomic(address); }
void fail(const char* what, Site site) { block().fail(what, site); }
void* shared_memory(const void* key, size_t bytes, Site site) {
  return block().shared_memory(key, bytes, site);
}
void* dynamic_shared_memory() { return block().dynamic_shared_memory(); }
const void* shared_memory_of(const void* own, unsigned rank, Site site) {
  return block().shared_memory_of(own, rank, site);
}
void start_copy(void* to, const void* from, Site site) { block().start_copy(to, from, site); }
void commit_copies() { block().commit_copies(); }
bool next_copy(size_t groups_left, void** to, const void** from) {
  return block().next_copy(groups_left, to, from);
}

}  // namespace cusim

// UndefinedBehaviorSanitizer calls this at each report; in a program, not in a library, ours is
// found before its own empty one.
extern "C" void __ubsan_on_report() { cusim::name_thread(); }
