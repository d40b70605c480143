#pragma once
// The numbers of one AdamW step that are the same for all elements, rounded to FP32 as PyTorch's operations round them.

namespace trainyard::optim {

struct AdamWNumbers {
  float gradient_scale = 1;   // clipping
  float decay = 1;            // 1 - learning rate · weight decay; 1 for what does not decay
  float average_weight = 0;   // 1 - beta1
  float square_decay = 0;     // beta2
  float square_weight = 0;    // 1 - beta2
  float correction_root = 1;  // sqrt(1 - beta2^step)
  float epsilon = 0;
  float step_size = 0;  // learning rate / (1 - beta1^step)
};

}  // namespace trainyard::optim
