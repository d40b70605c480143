#pragma once
// The way between this rank's device and the memory of its host: what is offloaded lies there, and is copied beside what the device
// computes. On a GPU the memory is pinned, and each direction has a stream of its own. On a CPU both are the same memory, and a copy is
// done at once: the callers are the same.

#include <cstdint>
#include <functional>
#include <memory>

#include <ATen/ATen.h>

namespace trainyard::mesh {

enum class Way {
  kUp,   // from the host to the device
  kDown  // back
};

/// Work that was started on one of the ways. It goes on where this object is destroyed.
class Crossing {
 public:
  virtual ~Crossing() = default;
  /// What the device is given from now on, in the current stream, comes after it. The host does not wait.
  virtual void wait_on_device() = 0;
  /// Returns when it is done: the host may read what came down, and change what went up.
  virtual void wait_on_host() = 0;
};

/// Lives on the training thread, and in backward on the thread of autograd while that one waits.
class HostLink {
 public:
  virtual ~HostLink() = default;

  /// Memory of the host that lasts as long as the training, of just that size; its values are undefined.
  virtual at::Tensor memory(at::IntArrayRef sizes, at::ScalarType type) = 0;
  /// The same for tensors that come and go in every step: from what was used before. LibTorch rounds pinned ones up to powers of two.
  virtual at::Tensor passing_memory(at::IntArrayRef sizes, at::ScalarType type) = 0;

  /// Starts `work`, which copies that way (non_blocking) and may start collectives on what it copied; with its stream as the current one.
  /// It comes after all that the device was given so far in the current stream, and after what was started before the same way. It must not
  /// allocate on the device. What it works on must live until somebody has waited.
  virtual std::unique_ptr<Crossing> start(Way way, std::function<void()> work) = 0;

  /// Elements of a block, where many are carried in blocks: so large that a copy is as fast as can be.
  virtual std::int64_t block_elements() const = 0;
};

std::unique_ptr<HostLink> host_link(at::Device device);

}  // namespace trainyard::mesh
