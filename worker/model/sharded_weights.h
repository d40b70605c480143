#pragma once
// ZeRO's weights: each data rank has shards of the masters, and forward and backward need whole weights.
//
//   stages 1 and 2   the variables stay whole; after the optimizer's step all units are gathered
//   stage 3          a unit's variables have memory from just before its forward to just after, and again around its backward; the unit
//                    that is used next is gathered meanwhile. Where the shards lie on the host, it is brought up first

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/ATen.h>

#include "worker/mesh/comm.h"
#include "worker/mesh/host_link.h"
#include "worker/plan/shards.h"

namespace trainyard::model {

/// A weight as it is put together: from every data rank's shard into the variable.
struct Gathered {
  at::Tensor shard;     // this rank's rows: the FP32 master; or of the variable's type, on the device or on its host
  at::Tensor variable;  // whole on the tensor-parallel rank; at stage 3 without memory
};

/// Lives on the training thread, and in backward on the thread of autograd while that one waits. Every call may be collective over the
/// data ranks; which are made, and in which order, depends on the schedule alone.
class ShardedWeights {
 public:
  /// `weights`: one for each parameter of the units, in the order of the table. `keeps`: the variables stay whole (stages 1 and 2).
  /// `host`: the way from the host, where the shards lie there, of the variables' type; else null.
  ShardedWeights(std::vector<plan::ShardUnit> units, std::vector<Gathered> weights, bool keeps, mesh::Comm& data,
                 mesh::HostLink* host = nullptr);
  ~ShardedWeights();

  const std::vector<plan::ShardUnit>& units() const { return units_; }
  bool keeps() const { return keeps_; }
  /// The unit of a parameter of this rank.
  std::size_t unit_of(std::size_t parameter) const;

  /// After the shards changed. Where the variables stay whole all units are gathered; else what was gathered of the old is dropped.
  void refresh();

  /// The unit's variables are whole after it. Starts to gather `next` meanwhile, unless it is negative.
  void need(std::size_t unit, std::int64_t next);
  /// Frees the unit's variables.
  void release(std::size_t unit);

 private:
  struct Flight;
  struct Held;
  void start(std::size_t unit);
  void pack(std::size_t unit, const at::Tensor& part) const;
  void finish(std::size_t unit);

  std::vector<plan::ShardUnit> units_;
  std::vector<Gathered> weights_;
  bool keeps_;
  mesh::Comm& data_;
  mesh::HostLink* host_;
  std::vector<Held> held_;  // by unit
};

/// The units of a part of the model in the order in which forward uses them. Where weights stay whole it does nothing.
class UnitUses {
 public:
  UnitUses() = default;
  /// `looks_up`: the first use is the embedding's look-up.
  UnitUses(ShardedWeights& weights, std::vector<std::size_t> units, bool looks_up);

  /// Around the look-up: its backward needs no weights.
  void before_look_up() const;
  void after_look_up() const;
  /// Around every other use. Both return x itself. The weights are whole between the two places, forward and backward, and freed beyond.
  at::Tensor enter(const at::Tensor& x, std::size_t use) const;
  at::Tensor leave(const at::Tensor& x, std::size_t use) const;
  /// The first use that is no look-up.
  std::size_t first() const { return looks_up_ ? 1 : 0; }
  std::size_t size() const { return units_.size(); }

 private:
  std::int64_t next_in_forward(std::size_t use) const;

  ShardedWeights* weights_ = nullptr;
  std::vector<std::size_t> units_;
  bool looks_up_ = false;
};

/// A tensor that has no memory yet; ShardedWeights gives it some.
at::Tensor without_memory(const std::vector<std::int64_t>& sizes, const at::TensorOptions& options);

}  // namespace trainyard::model
