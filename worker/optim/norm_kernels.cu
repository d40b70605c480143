#include "worker/optim/norm_kernels.h"

#include "worker/optim/norm_kernels.cuh"

namespace trainyard::optim {

void start_sum_blocks(const float* gradient, const NormCut& cut, double* sums, cudaStream_t stream) {
  sum_blocks<<<static_cast<unsigned>(cut.num_blocks()), kNormThreads, 0, stream>>>(gradient, cut, sums);
}

void start_sum_halving(double* values, std::int64_t count, double* sum, cudaStream_t stream) {
  sum_halving<<<1, kNormThreads, 0, stream>>>(values, count, sum);
}

}  // namespace trainyard::optim
