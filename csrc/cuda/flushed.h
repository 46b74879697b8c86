// Units that flush subnormal float32 values to zero, like the CPU's optimizers, norms and losses,
// include this file first. cmake/cuda.cmake compiles them with --ftz=true, which nvcc accepts only
// for whole units; the simulator runs them under FlushDenormals. A GPU does not flush subnormal
// float64 values. Unlike on the CPU, an activation after a batch norm flushes too; this never
// changes a normal result.
#pragma once
#define ONEPASS_ISA cuda_flushed
#define ONEPASS_FLUSHED
