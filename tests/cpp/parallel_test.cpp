// Tests of csrc/cpu/parallel.h, run by tests/test_pool.py: plain, and under ThreadSanitizer,
// which needs smaller counts. Exits 0 and prints "ok" if all hold; else names the first check that
// failed.
#include "../../csrc/cpu/parallel.h"
#include "../../csrc/cpu/cpus.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>
#include <vector>

using onepass::get_num_threads;
using onepass::parallel_for;
using onepass::set_num_threads;

constexpr int kPatience = 60;  // seconds before a wait counts as a hang

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::_Exit(1);                                                                 \
    }                                                                                \
  } while (0)

// A plain function pointer and a void* from anything callable.
template <class F>
void run(int64_t chunks, F f) {
  parallel_for(
      chunks, [](void* context, int64_t chunk) { (*static_cast<F*>(context))(chunk); }, &f);
}

template <class Condition>
bool eventually(Condition condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(kPatience);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

// Not atomic, so that ThreadSanitizer sees a chunk that is run twice or not waited for.
void every_chunk_once(int64_t chunks) {
  std::vector<int> count(size_t(chunks), 0);
  run(chunks, [&](int64_t chunk) { ++count[size_t(chunk)]; });
  for (int c : count) CHECK(c == 1);
}

// The first chunk ends only when another thread has run the last one.
void workers_help() {
  std::atomic<bool> helped{false};
  const auto caller = std::this_thread::get_id();
  run(1000, [&](int64_t chunk) {
    if (chunk == 0) CHECK(eventually([&] { return helped.load(); }));
    if (chunk == 999 && std::this_thread::get_id() != caller) helped = true;
  });
  CHECK(helped);
}

// The only worker begins at the back while the caller is in the first chunk.
void two_ends() {
  set_num_threads(2);
  std::atomic<int64_t> first_of_worker{-1};
  const auto caller = std::this_thread::get_id();
  run(1000, [&](int64_t chunk) {
    if (chunk == 0) CHECK(eventually([&] { return first_of_worker.load() >= 0; }));
    int64_t none = -1;
    if (std::this_thread::get_id() != caller) first_of_worker.compare_exchange_strong(none, chunk);
  });
  CHECK(first_of_worker == 999);
}

// A job's context is on the stack and is ruined as soon as the job is over.
struct Context {
  int kind;
  int counts[3];
};
template <int kind>
void count_chunk(void* context, int64_t chunk) {
  Context* c = static_cast<Context*>(context);
  CHECK(c->kind == kind);
  ++c->counts[chunk];
}
void tiny_jobs(int jobs) {
  const onepass::ChunkFn fns[] = {count_chunk<0>, count_chunk<1>, count_chunk<2>};
  for (int job = 0; job < jobs; ++job) {
    Context context{job % 3, {0, 0, 0}};
    const int chunks = 2 + job / 3 % 2;
    parallel_for(chunks, fns[job % 3], &context);
    for (int chunk = 0; chunk < 3; ++chunk) CHECK(context.counts[chunk] == (chunk < chunks));
    context.kind = -1;
  }
}

// Unequal chunks: the caller runs out of chunks while workers are still in theirs.
void waits_for_chunks_in_progress(int jobs) {
  for (int job = 0; job < jobs; ++job) {
    int finished[8] = {};
    run(8, [&](int64_t chunk) {
      for (volatile int i = 0; i < 300 * chunk; i = i + 1) {
      }
      finished[chunk] = 1;
    });
    for (int f : finished) CHECK(f);
  }
}

// More chunks than 32 bits can count. They cannot all be run here, so the job is cut short by a
// jump to the end of the process: a child that has seen chunks from both ends exits.
void sixty_four_bit_chunks() {
  for (int64_t chunks : {int64_t{1} << 40, (int64_t{1} << 40) + 1}) {
    const pid_t child = fork();
    if (child == 0) {
      std::atomic<bool> front{false};
      run(chunks, [&](int64_t chunk) {
        CHECK(chunk >= 0 && chunk < chunks);
        if (chunk == 0) {
          front = true;
          CHECK(eventually([] { return false; }) && "the last chunk was not reached");
        }
        if (chunk == chunks - 1 && eventually([&] { return front.load(); })) std::_Exit(0);
      });
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
}

void several_callers(int jobs) {
  std::vector<std::thread> callers;
  std::atomic<int> ready{0};
  for (int k = 0; k < 4; ++k) {
    callers.emplace_back([=, &ready] {
      ++ready;
      CHECK(eventually([&] { return ready.load() == 4; }));
      for (int job = 0; job < jobs; ++job) every_chunk_once(1 + (job * 7 + k) % 50);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

void nested() {
  std::vector<int> count(64 * 64, 0);
  run(64, [&](int64_t outer) {
    run(64, [&, self = std::this_thread::get_id()](int64_t inner) {
      CHECK(std::this_thread::get_id() == self);
      ++count[size_t(outer * 64 + inner)];
    });
  });
  for (int c : count) CHECK(c == 1);
}

// n threads share the work, which takes every one of them: n chunks wait for each other.
void exactly(int n) {
  std::atomic<int> together{0};
  run(n, [&](int64_t) {
    ++together;
    CHECK(eventually([&] { return together.load() == n; }));
  });
  std::vector<std::thread::id> by(1000);
  run(1000, [&](int64_t chunk) { by[size_t(chunk)] = std::this_thread::get_id(); });
  CHECK(std::set<std::thread::id>(by.begin(), by.end()).size() <= size_t(n));
}

void thread_count_changes(int jobs) {
  set_num_threads(-3);
  CHECK(get_num_threads() == 1);
  set_num_threads(1 << 20);
  CHECK(get_num_threads() == 1024);

  std::atomic<bool> over{false};
  std::thread meddler([&] {
    for (int n = 0; !over; ++n) {
      set_num_threads(1 + n % 5);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  several_callers(jobs);
  over = true;
  meddler.join();

  for (int n : {5, 2, 1, 4}) {
    set_num_threads(n);
    CHECK(get_num_threads() == n);
    exactly(n);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the same with sleeping workers
    exactly(n);
  }
}

// Long enough for every worker to fall asleep, so that the next job has to wake them.
void wakes_sleepers() {
  for (int job = 0; job < 10; ++job) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    workers_help();
  }
}

// One CPU fewer than the caller may use, if it may use two.
void workers_keep_off_the_callers_cpu() {
  cpu_set_t allowed;
  CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  const int cpus = CPU_COUNT(&allowed);
  const auto caller = std::this_thread::get_id();
  std::atomic<int> theirs{0};
  run(1000, [&](int64_t chunk) {
    if (chunk == 0) CHECK(eventually([&] { return theirs.load() != 0; }));
    cpu_set_t mask;
    CHECK(sched_getaffinity(0, sizeof mask, &mask) == 0);
    if (std::this_thread::get_id() != caller) theirs = CPU_COUNT(&mask);
  });
  CHECK(theirs == (cpus > 1 ? cpus - 1 : 1));
}

// Runs in the child: everything works there, workers included, and the process ends as usual.
[[noreturn]] void child_work() {
  every_chunk_once(1000);
  workers_help();
  every_chunk_once(1000);
  std::exit(0);
}
void forked_child_works() {
  std::fflush(nullptr);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) child_work();
  int status = -1;
  const bool ended = eventually([&] { return waitpid(child, &status, WNOHANG) == child; });
  if (!ended) kill(child, SIGKILL);
  CHECK(ended && "a forked child hangs");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void fork_between_jobs() {
  every_chunk_once(1000);
  forked_child_works();
  workers_help();  // the parent is as before
}

void fork_while_another_thread_is_in_a_job() {
  std::atomic<bool> over{false}, inside{false};
  std::thread caller([&] {
    while (!over) run(50, [&](int64_t) { inside = true; });
  });
  CHECK(eventually([&] { return inside.load(); }));
  for (int k = 0; k < 20; ++k) forked_child_works();
  over = true;
  caller.join();
  // Once for certain: the job cannot end before the child has.
  std::atomic<bool> begun{false}, release{false};
  std::thread holder([&] {
    run(2, [&](int64_t) {
      begun = true;
      CHECK(eventually([&] { return release.load(); }));
    });
  });
  CHECK(eventually([&] { return begun.load(); }));
  forked_child_works();
  release = true;
  holder.join();
}

int main(int argc, char** argv) {
  if (argc > 2) {
    std::printf("%d\n", onepass::quota_cpus(argv[1], argv[2]));
    return 0;
  }
  if (argc > 1) {
    std::printf("%d\n", get_num_threads());
    return 0;
  }
  for (int threads : {2, 5}) {
    set_num_threads(threads);
    for (int64_t chunks : {0, 1, 2, 3, 1000, 1000000}) every_chunk_once(chunks);
    workers_help();
    wakes_sleepers();
    workers_keep_off_the_callers_cpu();
    waits_for_chunks_in_progress(2000);
    tiny_jobs(50000);
    nested();
  }
  two_ends();
  set_num_threads(3);
  several_callers(5000);
  thread_count_changes(5000);
  set_num_threads(3);
  sixty_four_bit_chunks();
  fork_between_jobs();
  fork_while_another_thread_is_in_a_job();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // exit with sleeping workers
  std::puts("ok");
}
