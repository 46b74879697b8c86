# The CPU's kernels: units compiled for every instruction-set level; cpuid chooses at run time. Sets
# kernel_objects (the libraries, one a level) and level_definitions (for cpu/dispatch.cpp).
include("${CMAKE_CURRENT_LIST_DIR}/formulas.cmake")
set(level_definitions "")
if(ONEPASS_BASE_LEVEL)
  set(levels base)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(levels v2 v3 v4)
  set(level_definitions ONEPASS_X86_LEVELS=1)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(levels neon)  # what every aarch64 has
  set(level_definitions ONEPASS_NEON_LEVEL=1)
else()
  set(levels base)
endif()
# Of -O3 what vectorises, not its inlining and unrolling: they double the code and not its speed, since
# leaf loops are functions of their own. Nothing unwinds through kernels: they throw nothing.
set(kernel_flags -O2 -ftree-vectorize -fvect-cost-model=dynamic
  -fno-asynchronous-unwind-tables -fno-math-errno -fno-trapping-math -ffp-contract=off -fno-exceptions -fno-rtti -fno-threadsafe-statics)

# Lanes of constant count that must lie in registers.
set_source_files_properties(csrc/cpu/depthwise.cpp csrc/cpu/global_norm.cpp PROPERTIES COMPILE_OPTIONS -O3)
set_source_files_properties(csrc/cpu/softmax.cpp PROPERTIES COMPILE_OPTIONS -fpeel-loops)
set_source_files_properties(csrc/cpu/dropout.cpp PROPERTIES COMPILE_OPTIONS "-fpeel-loops;-funswitch-loops")
# Loops over elements ask for options that do not change: they are vectorised only where each way has a
# loop of its own.
set_source_files_properties(${formula_units} PROPERTIES COMPILE_OPTIONS -funswitch-loops)
set(kernel_objects "")
foreach(level IN LISTS levels)
  add_library(onepass_cpu_${level} OBJECT
    csrc/cpu/activation_blocks.cpp csrc/cpu/blocks.cpp csrc/cpu/code_blocks.cpp csrc/cpu/composed_relu.cpp
    csrc/cpu/dropout.cpp csrc/cpu/global_norm.cpp csrc/cpu/keep_words.cpp csrc/cpu/limit_rows.cpp csrc/cpu/losses.cpp
    csrc/cpu/normalise.cpp csrc/cpu/pointwise_losses.cpp csrc/cpu/row_norms.cpp csrc/cpu/stages.cpp csrc/cpu/streams.cpp csrc/cpu/watch.cpp csrc/cpu/softmax.cpp
    csrc/cpu/maxout.cpp csrc/cpu/glu.cpp csrc/cpu/pools.cpp csrc/cpu/adaptive_pools.cpp csrc/cpu/im2col.cpp csrc/cpu/depthwise.cpp
    ${formula_units})
  target_include_directories(onepass_cpu_${level} PRIVATE csrc)
  target_compile_definitions(onepass_cpu_${level} PRIVATE ONEPASS_ISA=${level})
  target_compile_options(onepass_cpu_${level} PRIVATE ${kernel_flags} ${warnings})
  if(NOT level STREQUAL v2)  # for processors before 2013 less code counts for more
    target_compile_options(onepass_cpu_${level} PRIVATE -funswitch-loops)
  endif()
  if(level MATCHES "^v")
    # Keep loads in the order of the source: reordering them costs up to a seventh.
    target_compile_options(onepass_cpu_${level} PRIVATE -march=x86-64-${level} -fno-schedule-insns2)
  endif()
  # With generic tuning GCC reloads an operand at each use, and each unaligned load touches two cache
  # lines.
  if(level STREQUAL v3)
    target_compile_options(onepass_cpu_${level} PRIVATE -mtune=skylake)
  elseif(level STREQUAL v4)
    target_compile_options(onepass_cpu_${level} PRIVATE -mtune=icelake-server -mprefer-vector-width=512)
  endif()
  list(APPEND kernel_objects onepass_cpu_${level})
endforeach()
