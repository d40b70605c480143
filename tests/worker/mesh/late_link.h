#pragma once
// A HostLink whose work is done no sooner than it is waited for: the other end of what a GPU's streams may do than that of a CPU,
// which does all at once. It counts the memory that it gave.

#include <atomic>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include <ATen/core/grad_mode.h>

#include "worker/mesh/host_link.h"

namespace trainyard::mesh {

class LateLink : public HostLink {
 public:
  /// So few elements a block that a small model has several.
  static constexpr std::int64_t kSmallBlock = 1 << 14;
  explicit LateLink(std::int64_t block_elements = kSmallBlock, std::atomic<std::int64_t>* bytes = nullptr)
      : block_elements_(block_elements), bytes_(bytes) {}

  at::Tensor memory(at::IntArrayRef sizes, at::ScalarType type) override { return counted(sizes, type); }
  at::Tensor passing_memory(at::IntArrayRef sizes, at::ScalarType type) override { return counted(sizes, type); }
  std::unique_ptr<Crossing> start(Way way, std::function<void()> work) override {
    auto& queue = queues_[way];
    queue.waiting.push_back(std::move(work));
    return std::make_unique<Late>(queue, ++queue.started);
  }
  std::int64_t block_elements() const override { return block_elements_; }
  /// How much of what was started that way is done.
  std::int64_t done(Way way) { return queues_[way].done; }

 private:
  struct Queue {
    std::deque<std::function<void()>> waiting;
    std::int64_t started = 0, done = 0;
  };
  struct Late final : Crossing {
    Late(Queue& of, std::int64_t which) : queue(of), number(which) {}
    void wait_on_device() override {
      const at::NoGradGuard no_grad;
      while (queue.done < number) {
        const auto work = std::move(queue.waiting.front());
        queue.waiting.pop_front();
        ++queue.done;
        work();
      }
    }
    void wait_on_host() override { wait_on_device(); }
    Queue& queue;
    std::int64_t number;
  };

  /// What was not written yet is no number, of bytes 255.
  at::Tensor counted(at::IntArrayRef sizes, at::ScalarType type) {
    at::Tensor values = at::full(sizes, type == at::kByte ? 255 : std::numeric_limits<double>::quiet_NaN(), type);
    if (bytes_ == nullptr) return values;
    const auto size = static_cast<std::int64_t>(values.nbytes());
    *bytes_ += size;
    void* const address = values.data_ptr();
    return at::from_blob(
        address, sizes, [values, size, bytes = bytes_](void* /*address*/) { *bytes -= size; }, at::TensorOptions(type));
  }

  std::int64_t block_elements_;
  std::atomic<std::int64_t>* bytes_;
  std::map<Way, Queue> queues_;
};

}  // namespace trainyard::mesh
