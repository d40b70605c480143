#include "worker/schedule/offloaded_sums.h"

#include <utility>

namespace trainyard::schedule {

OffloadedSums::OffloadedSums(mesh::HostLink& link, const std::vector<std::int64_t>& elements)
    : link_(link), has_(elements.size(), false) {
  for (const std::int64_t count : elements) sums_.push_back(link.memory({count}, at::kFloat));
}

OffloadedSums::~OffloadedSums() = default;

void OffloadedSums::begin() { has_.assign(has_.size(), false); }

OffloadedSums::Up OffloadedSums::bring_up(std::size_t which, at::Device device) {
  Up up;
  if (!has_.at(which)) return up;
  // The two ways do not wait for each other: what goes up has to be down.
  if (down_.crossing && down_.which == which) std::exchange(down_, {}).crossing->wait_on_device();
  up.sum = at::empty(sums_[which].sizes(), at::TensorOptions(at::kFloat).device(device));
  up.crossing = link_.start(mesh::Way::kUp, [to = up.sum, from = sums_[which]] { to.copy_(from, /*non_blocking=*/true); });
  return up;
}

void OffloadedSums::send_down(std::size_t which, at::Tensor sum) {
  if (down_.crossing) std::exchange(down_, {}).crossing->wait_on_device();
  down_ = {.which = which, .sum = std::move(sum), .crossing = nullptr};
  down_.crossing =
      link_.start(mesh::Way::kDown, [from = down_.sum, to = sums_.at(which)] { to.copy_(from, /*non_blocking=*/true); });
  has_[which] = true;
}

void OffloadedSums::settle() {
  if (down_.crossing) std::exchange(down_, {}).crossing->wait_on_host();  // and with it all that went before
}

}  // namespace trainyard::schedule
