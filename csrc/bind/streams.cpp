// move_streams: arrays read and written on the pool's threads, as a kernel that computes nothing
// would. For the benchmark (python/onepass/bench/_limits.py).
#include "cpu/streams.h"

#include <atomic>
#include <string>
#include <vector>

#include "bind/array.h"
#include "bind/fast.h"
#include "bind/scalar.h"
#include "core/schedule.h"
#include "cpu/parallel.h"

namespace onepass::bind {
namespace {

constexpr const char* kOp = "move_streams";

std::string text_of(const StreamShape& shape) {
  return "(" + std::to_string(shape.reads) + ", " + std::to_string(shape.writes) + ", " +
         std::to_string(shape.updates) + ")";
}

StreamLoop loop_of(const StreamShape& wanted) {
  std::string known;
  for (int i = 0; i < kStreamShapeCount; ++i) {
    const StreamShape& shape = kStreamShapes[i];
    if (shape.reads == wanted.reads && shape.writes == wanted.writes &&
        shape.updates == wanted.updates)
      return cpu_streams().loops[i];
    known += (i == 0 ? "" : ", ") + text_of(shape);
  }
  value_error(kOp, "no loop has (reads, writes, updates) = " + text_of(wanted) + ", there are " +
                       known + "; csrc/cpu/streams.h lists them");
}

// The arrays of one argument.
struct Family {
  std::vector<Array> arrays;
  std::vector<uint32_t*> data;

  Family(const char* name, PyObject* object, bool written) {
    const Items items(kOp, name, object);
    arrays.resize(size_t(items.count()));
    for (Py_ssize_t i = 0; i < items.count(); ++i) {
      Array& a = arrays[size_t(i)];
      open(&a, kOp, name, items[i], i);
      if (check_device(&a, 1).on_device()) value_error(kOp, a.label() + " is on a device");
      if (a.dtype() != DType::f32)
        type_error(kOp, a.label() + " is " + dtype_text(a) + ", expected float32");
      check_dense(a);
      if (written) check_writable(a);
      data.push_back(static_cast<uint32_t*>(a.data));
    }
  }
  void check_shapes(const Array& first) const {
    for (const Array& a : arrays) check_shape_like(a, first);
  }
  int count() const { return int(arrays.size()); }
};

void check_aligned(const Family& writes) {
  for (const Array& a : writes.arrays)
    if (a.size() > 0 && reinterpret_cast<uintptr_t>(a.data) % 64 != 0)
      value_error(kOp, a.label() +
                           " does not begin at a multiple of 64 bytes, which past_caches "
                           "expects");
}

struct Job {
  Streams streams;
  StreamLoop loop;
  Schedule schedule;
  bool past_caches;
  std::atomic<uint32_t> result{0};

  static void group(void* context, int64_t g) {
    Job& job = *static_cast<Job*>(context);
    for (int64_t i = job.schedule.groups[g]; i < job.schedule.groups[g + 1]; ++i) {
      const Piece& piece = job.schedule.pieces[i];
      job.result ^= job.loop(job.streams, piece.begin, piece.size, job.past_caches);
    }
  }
};

py::object move_streams(Arguments given) {
  given.expect(kOp, 5);
  const Family reads("reads", given[0], false), writes("writes", given[1], true),
      updates("updates", given[2], true);
  const bool past_caches = boolean(kOp, "past_caches", given[3]);
  const bool alone = boolean(kOp, "alone", given[4]);
  const StreamLoop loop = loop_of({reads.count(), writes.count(), updates.count()});
  const Array& first = !reads.arrays.empty()    ? reads.arrays[0]
                       : !writes.arrays.empty() ? writes.arrays[0]
                                                : updates.arrays[0];
  for (const Family* family : {&reads, &writes, &updates}) family->check_shapes(first);
  if (past_caches) check_aligned(writes);

  Tensor tensor;
  tensor.size = first.size();
  ScheduleStorage schedule;
  schedule.build(&tensor, 1);
  Job job{{reads.data.data(), writes.data.data(), updates.data.data()},
          loop,
          schedule.view(),
          past_caches};
  {
    const ReleaseGil release(job.schedule.elements);
    if (alone) {
      for (int64_t g = 0; g < job.schedule.group_count; ++g) Job::group(&job, g);
    } else {
      parallel_for(job.schedule.group_count, &Job::group, &job);
    }
  }
  return py::int_(job.result.load());
}

py::object stream_shapes(Arguments given) {
  given.expect("stream_shapes", 0);
  py::list shapes;
  for (const StreamShape& shape : kStreamShapes)
    shapes.append(py::make_tuple(shape.reads, shape.writes, shape.updates));
  return py::tuple(shapes);
}

}  // namespace

void define_streams(py::module_& m) {
  define(m, "move_streams(reads, writes, updates, past_caches, alone)", &fast<&move_streams>);
  define(m, "stream_shapes()", &fast<&stream_shapes>);
}

}  // namespace onepass::bind
