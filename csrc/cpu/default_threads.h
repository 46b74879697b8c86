// Where the number of threads comes from that parallel.h begins with.
#pragma once

namespace onepass {

int default_num_threads();

// The environment variable that says it; null if none does.
const char* num_threads_variable();

}  // namespace onepass
