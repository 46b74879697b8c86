// A small thread pool. The caller takes chunks itself and at the end waits only for chunks that a
// worker has begun: a worker that is late, asleep or off the CPU costs nothing but its help.
//
// Team::range holds the free units. A thread takes a unit with a compare-exchange; run() then
// cannot return until Team::done counts that unit. The job is valid for exactly that time, and only
// then do workers read it. If a later job stored an equal word in the meantime, the thread has
// taken a unit of the later job and runs it.
#include "parallel.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <climits>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "cpus.h"
#include "default_threads.h"

// Workers sleep on a futex; without Linux, and in one of the tests, on a condition variable.
#if defined(__linux__) && !defined(ONEPASS_FUTEX)
#define ONEPASS_FUTEX 1
#endif
#if ONEPASS_FUTEX
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <condition_variable>
#include <mutex>
#endif

namespace onepass {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kSpins = 1000;  // about 20 us: longer than the gap between two kernels of one step
constexpr int64_t kMaxUnits = int64_t{1} << 31;

struct Team {
  // Units [high half, low half) are free. The caller takes from the front, workers from the back.
  // So each core works on the same end of the data in every call and finds it in its cache.
  alignas(64) std::atomic<uint64_t> range{0};
  // The job, on the same cache line: it arrives with the compare-exchange.
  ChunkFn fn = nullptr;
  void* context = nullptr;
  int64_t chunks = 0;
  int64_t grain = 1;  // chunks per unit, more than one only beyond kMaxUnits chunks

  alignas(64) std::atomic<int64_t> done{0};  // units of this job that workers have finished

  alignas(64) std::atomic<uint32_t> epoch{0};  // grows with every job; idle workers watch it
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
#if !ONEPASS_FUTEX
  std::mutex mutex;
  std::condition_variable wakeup;
#endif

  alignas(64) int caller_cpu = -1;
  std::vector<std::thread> workers;
};

// Constant-initialised and trivially destroyed, so nothing runs at import or at exit: workers end
// with the process.
std::atomic<int> num_threads{0};  // 0: not decided yet
std::atomic<bool> busy{false};    // held by the one caller that uses the team
Team* team = nullptr;             // guarded by busy
bool fork_handled = false;        // guarded by busy

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#else
  std::this_thread::yield();
#endif
}

#if ONEPASS_FUTEX
void sleep_while(Team& t, uint32_t epoch) {
  syscall(SYS_futex, &t.epoch, FUTEX_WAIT_PRIVATE, epoch, nullptr, nullptr, 0);
}
void wake(Team& t, int count) {
  syscall(SYS_futex, &t.epoch, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}
#else
void sleep_while(Team& t, uint32_t epoch) {
  std::unique_lock<std::mutex> lock(t.mutex);
  t.wakeup.wait(lock, [&] { return t.epoch.load(std::memory_order_relaxed) != epoch; });
}
void wake(Team& t, int count) {
  {
    std::lock_guard<std::mutex> lock(t.mutex);
  }  // every thread that saw the old epoch waits by now
  if (count > 2) return t.wakeup.notify_all();
  while (count-- > 0) t.wakeup.notify_one();
}
#endif

int64_t units_left(uint64_t range) { return int64_t(range & UINT32_MAX) - int64_t(range >> 32); }

// Wakes at most two sleepers, each of which wakes two more: a wake-up takes 1 to 2 us, so the
// caller must not wake many.
void wake_helpers(Team& t, int64_t units) {
  // seq_cst, like the epoch and sleepers elsewhere: the sleeper sees the new epoch or we see it.
  if (units > 0 && t.sleepers.load(std::memory_order_seq_cst) > 0) wake(t, units > 1 ? 2 : 1);
}

// Takes a unit for the calling thread; returns its index, or -1 if none is free.
int64_t take(Team& t, bool front) {
  uint64_t range = t.range.load(std::memory_order_relaxed);
  while (units_left(range) > 0) {
    const uint64_t rest = front ? range + (uint64_t{1} << 32) : range - 1;
    // Acquire: pairs with the store in run, through compare-exchanges of other threads, so the job
    // is visible.
    if (t.range.compare_exchange_weak(range, rest, std::memory_order_acquire,
                                      std::memory_order_relaxed)) {
      return front ? int64_t(range >> 32) : int64_t(rest & UINT32_MAX);
    }
  }
  return -1;
}

void run_unit(const Team& t, int64_t unit) {
  const ChunkFn fn = t.fn;
  void* const context = t.context;
  const int64_t begin = unit * t.grain;
  const int64_t end = t.grain < t.chunks - begin ? begin + t.grain : t.chunks;
  for (int64_t chunk = begin; chunk < end; ++chunk) fn(context, chunk);
}

uint32_t wait_for_job(Team& t, uint32_t seen) {
  uint32_t epoch;
  for (int spin = 0; spin < kSpins; ++spin) {
    epoch = t.epoch.load(std::memory_order_acquire);
    if (epoch != seen) return epoch;
    relax();
  }
  t.sleepers.fetch_add(1, std::memory_order_seq_cst);
  while ((epoch = t.epoch.load(std::memory_order_seq_cst)) == seen) sleep_while(t, seen);
  t.sleepers.fetch_sub(1, std::memory_order_relaxed);
  wake_helpers(t, units_left(t.range.load(std::memory_order_relaxed)) - 1);
  return epoch;
}

void work(Team& t) {
  sigset_t signals;  // go to the threads of the program; a fault stays here
  sigfillset(&signals);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&signals, fault);
  pthread_sigmask(SIG_SETMASK, &signals, nullptr);
  for (uint32_t seen = 0;;) {
    seen = wait_for_job(t, seen);
    if (t.stop.load(std::memory_order_relaxed)) return;  // stored before the epoch just acquired
    for (int64_t unit; (unit = take(t, false)) >= 0;) {
      run_unit(t, unit);
      // Release: run returns after the writes of fn and after this thread's last read of the job.
      t.done.fetch_add(1, std::memory_order_release);
    }
  }
}

// A worker that wakes up on the CPU of the caller preempts it and then spins in its place. So the
// workers may use all CPUs that the caller may use, except its own. This costs one comparison until
// the caller migrates.
void keep_off_caller(Team& t) {
#ifdef __linux__
  const int cpu = sched_getcpu();
  if (cpu == t.caller_cpu || cpu < 0 || cpu >= CPU_SETSIZE) return;
  t.caller_cpu = cpu;
  cpu_set_t others;
  if (sched_getaffinity(0, sizeof others, &others) != 0) return;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0) return;
  for (std::thread& worker : t.workers) {
    pthread_setaffinity_np(worker.native_handle(), sizeof others, &others);
  }
#else
  (void)t;
#endif
}

void run(Team& t, int64_t chunks, ChunkFn fn, void* context) {
  keep_off_caller(t);
  t.fn = fn;
  t.context = context;
  t.chunks = chunks;
  t.grain = (chunks - 1) / kMaxUnits + 1;
  const int64_t units = (chunks - 1) / t.grain + 1;
  t.done.store(0, std::memory_order_relaxed);
  t.range.store(uint64_t(units),
                std::memory_order_release);  // threads that take a unit see the lines above
  t.epoch.fetch_add(1, std::memory_order_seq_cst);
  wake_helpers(t, units - 1);

  int64_t theirs = units;
  for (int64_t unit; (unit = take(t, true)) >= 0; --theirs) run_unit(t, unit);
  // Acquire: pairs with the release of each worker that added to done.
  for (int64_t spin = 0; t.done.load(std::memory_order_acquire) != theirs; ++spin) {
    spin < kSpins ? relax() : std::this_thread::yield();
  }
}

// A forked child has no workers. It abandons the old team: it cannot join those threads, and
// another thread may have been anywhere inside the team.
void forget_team() {
  team = nullptr;
  busy.store(false, std::memory_order_relaxed);
}

void dismiss(Team* t) {
  t->stop.store(true, std::memory_order_relaxed);
  t->epoch.fetch_add(1, std::memory_order_seq_cst);
  wake(*t, INT_MAX);
  for (std::thread& worker : t->workers) worker.join();
  delete t;
}

Team* assemble(int threads) {
  if (!fork_handled) fork_handled = pthread_atfork(nullptr, nullptr, forget_team) == 0;
  Team* t = new Team;
  try {
    while (int(t->workers.size()) < threads - 1) t->workers.emplace_back([t] { work(*t); });
  } catch (const std::exception&) {  // the system refuses: use those that started, and report their
                                     // number
    num_threads.compare_exchange_strong(threads, 1 + int(t->workers.size()));
  }
  return t;
}

// The number in an environment variable: 0 if it is not set or empty, -1 if it is not a number of
// threads. `list`: of numbers for nested levels, as OpenMP takes it; the first counts.
int threads_of(const char* variable, bool list) {
  const char* text = std::getenv(variable);
  if (!text || *text == '\0') return 0;
  int first = 0;
  for (;;) {
    char* end;
    const long n = std::strtol(text, &end, 10);
    if (end == text || n < 1) return -1;
    if (!list && n > kMaxThreads) return -1;
    if (first == 0) first = n < kMaxThreads ? int(n) : kMaxThreads;
    while (*end == ' ' || *end == '\t') ++end;
    if (*end == '\0') return first;
    if (!list || *end != ',') return -1;
    text = end + 1;
  }
}

constexpr const char *kOwnVariable = "ONEPASS_NUM_THREADS", *kOpenMpVariable = "OMP_NUM_THREADS";

}  // namespace

void parallel_for(int64_t chunks, ChunkFn fn, void* context) {
  const int threads = chunks > 1 ? get_num_threads() : 1;
  // Acquire and release: one caller finishes with the team before the next one begins.
  if (threads == 1 || busy.exchange(true, std::memory_order_acquire)) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) fn(context, chunk);
    return;
  }
  if (team && int(team->workers.size()) != threads - 1) {
    dismiss(team);
    team = nullptr;
  }
  if (!team) team = assemble(threads);
  run(*team, chunks, fn, context);
  busy.store(false, std::memory_order_release);
}

void set_num_threads(int n) {
  num_threads.store(n < 1 ? 1 : n < kMaxThreads ? n : kMaxThreads, std::memory_order_relaxed);
}

int default_num_threads() {
  if (const int n = threads_of(kOwnVariable, false); n > 0) return n;
  if (const int n = threads_of(kOpenMpVariable, true); n > 0) return n;
  const int cpus = usable_cpus();
  return cpus < kMaxThreads ? cpus : kMaxThreads;
}

const char* num_threads_variable() {
  if (threads_of(kOwnVariable, false) > 0) return kOwnVariable;
  return threads_of(kOpenMpVariable, true) > 0 ? kOpenMpVariable : nullptr;
}

const char* misspelt_num_threads() {
  const int own = threads_of(kOwnVariable, false);
  if (own != 0) return own < 0 ? kOwnVariable : nullptr;
  return threads_of(kOpenMpVariable, true) < 0 ? kOpenMpVariable : nullptr;
}

int get_num_threads() {
  int n = num_threads.load(std::memory_order_relaxed);
  if (n != 0) return n;
  const int chosen = default_num_threads();
  // If set_num_threads ran in between, n is now its value.
  return num_threads.compare_exchange_strong(n, chosen, std::memory_order_relaxed) ? chosen : n;
}

}  // namespace onepass
