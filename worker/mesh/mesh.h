#pragma once
// One rank's place in the layout, and its groups along the axes.

#include <cstdint>
#include <functional>
#include <memory>

#include <ATen/ATen.h>

#include "crds/contract/layout.h"
#include "worker/mesh/comm.h"
#include "worker/mesh/host_link.h"
#include "worker/mesh/timeline.h"

namespace trainyard::mesh {

/// Lives on the training thread.
class Mesh {
 public:
  /// A group of one rank is there too. Activations and gradients of a pipeline have groups of their own, since they pass each other; so
  /// have those that go around, since of two stages each follows the other.
  struct Comms {
    std::unique_ptr<Comm> world;
    std::unique_ptr<Comm> data;
    std::unique_ptr<Comm> tensor;
    std::unique_ptr<Comm> pipeline;            // collectives among the stages
    std::unique_ptr<Comm> activations;         // point to point, from stage to stage
    std::unique_ptr<Comm> gradients;           // point to point, back
    std::unique_ptr<Comm> activations_around;  // from the last stage to the first, where a stage has chunks; else of one rank
    std::unique_ptr<Comm> gradients_around;    // back
    std::unique_ptr<Comm> shards;              // of `data`, those that ZeRO shards over; null: all
    std::unique_ptr<Comm> replicas;            // of `data`, those that keep the same shards; null: there is one
  };

  /// `farewell`: what leave() does; nothing where ranks need not wait for each other. `timeline`: that the groups tell of their calls.
  /// `host`: by default that of the device.
  Mesh(const contract::Layout& layout, std::int32_t rank, at::Device device, Comms comms, std::function<void()> farewell = {},
       std::shared_ptr<Timeline> timeline = std::make_shared<Timeline>(), std::unique_ptr<HostLink> host = nullptr)
      : layout_(layout),
        rank_(rank),
        at_(layout_.coordinate_of(rank)),
        device_(device),
        timeline_(std::move(timeline)),
        comms_(std::move(comms)),
        farewell_(std::move(farewell)),
        host_(host ? std::move(host) : host_link(device)) {}

  /// After the last call of any group, at an end that is as it should be: returns when every rank has come here, or after half a
  /// minute. A process that ended earlier could take bytes with it that a slower rank still waits for.
  void leave() {
    if (farewell_) farewell_();
  }

  const contract::Layout& layout() const { return layout_; }
  std::int32_t rank() const { return rank_; }
  const contract::Coordinate& at() const { return at_; }
  /// Where this rank computes, and where collectives need their tensors.
  at::Device device() const { return device_; }
  /// The memory beside it.
  HostLink& host() { return *host_; }
  bool is_first_stage() const { return at_.pp == 0; }
  bool is_last_stage() const { return at_.pp == layout_.degrees().pp - 1; }

  Timeline& timeline() const { return *timeline_; }

  Comm& world() { return *comms_.world; }
  Comm& data() { return *comms_.data; }
  /// Of the data axis, the ranks that ZeRO shards over: all, or those of this worker.
  Comm& shards() { return comms_.shards ? *comms_.shards : *comms_.data; }
  /// Of the data axis, those of other workers that keep the same shards as this rank; null where all ranks shard together.
  Comm* replicas() { return comms_.replicas.get(); }
  Comm& tensor() { return *comms_.tensor; }
  Comm& pipeline() { return *comms_.pipeline; }
  Comm& activations(bool around = false) { return around ? *comms_.activations_around : *comms_.activations; }
  Comm& gradients(bool around = false) { return around ? *comms_.gradients_around : *comms_.gradients; }

 private:
  contract::Layout layout_;
  std::int32_t rank_;
  contract::Coordinate at_;
  at::Device device_;
  std::shared_ptr<Timeline> timeline_;  // before the groups, which tell it of their calls
  Comms comms_;
  std::function<void()> farewell_;
  std::unique_ptr<HostLink> host_;
};

}  // namespace trainyard::mesh
