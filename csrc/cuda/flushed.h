// Included first by units that take subnormal float32 values for zero, as the CPU's optimizers,
// norms and losses do. cmake/cuda.cmake compiles them with --ftz=true, which nvcc knows for whole
// units only; the simulator runs them under FlushDenormals. Subnormal float64 values stay on a GPU.
// An activation behind a batch norm flushes too, unlike the CPU's; no normal result shows it.
#pragma once
#define ONEPASS_ISA cuda_flushed
#define ONEPASS_FLUSHED
