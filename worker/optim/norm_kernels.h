#pragma once
// Starts the kernels of norm_kernels.cuh. Knows nothing of LibTorch, whose headers nvcc would take half a minute to read.

#include "worker/optim/norm_cut.h"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace trainyard::optim {

/// sums: cut.num_blocks() numbers. Both return at once; an error shows in cudaGetLastError().
void start_sum_blocks(const float* gradient, const NormCut& cut, double* sums, CUstream_st* stream);

/// Overwrites `values`, of which there is at least one.
void start_sum_halving(double* values, std::int64_t count, double* sum, CUstream_st* stream);

}  // namespace trainyard::optim
