#pragma once
// What an agent is told: the state that should be. PUT /v1/assignment carries one, signed (signature.h).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crds/contract/job.h"

namespace trainyard::contract {

/// Where the ranks of a generation meet: rank 0 listens there with a TCPStore, its keys under `<uid>/<generation>`.
struct Rendezvous {
  std::string host;
  std::int32_t port = 0;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("host", self.host);
    field("port", self.port);
  }
  bool operator==(const Rendezvous&) const = default;
};

/// An agent refuses (409) a lower generation than it has, and another content under the same generation, except for the last three
/// fields: checkpointRequest may only grow, stopAfter and release may only be set. It has killed and reaped every rank of the last
/// generation before it starts those of the next.
///
/// Once an agent has taken a generation it is told no more than these three, in an assignment that amends the one it has: whoever
/// tells it need not know what that was made from, since users may edit the spec meanwhile.
struct Assignment {
  std::string jobUid;
  std::string job;  // namespace/name, for logs
  std::int64_t generation = 0;
  bool amends = false;  // the agent has this generation's assignment (409: it has not); only the last three fields count

  std::int32_t worker = 0;          // index of this worker in the gang
  std::vector<std::int32_t> ranks;  // the ranks that this agent runs; empty: none (the agent idles)
  std::int32_t worldSize = 0;
  Rendezvous rendezvous;
  TrainingJobSpec spec;  // without workers.template

  std::int64_t checkpointRequest = 0;     // n > 0: write a checkpoint, once for each n
  std::optional<std::int64_t> stopAfter;  // n: when the checkpoint of request n is durable, stop (without spec.checkpoint: stop)
  bool release = false;                   // nothing more is wanted of this worker: ranks that run are killed, and the agent exits

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("jobUid", self.jobUid);
    field("job", self.job);
    field("generation", self.generation);
    field("amends", self.amends);
    if (self.amends) return describe_amendment(self, field);
    field("worker", self.worker);
    field("ranks", self.ranks);
    field("worldSize", self.worldSize);
    field("rendezvous", self.rendezvous);
    field("spec", self.spec);
    describe_amendment(self, field);
  }
  template <class Self, class Visitor>
  static void describe_amendment(Self& self, Visitor&& field) {
    field("checkpointRequest", self.checkpointRequest);
    field("stopAfter", self.stopAfter);
    field("release", self.release);
  }
  bool operator==(const Assignment&) const = default;
};

/// What a rank reads as the first line of its standard input; every later line is a RankControl. The end of the input means that
/// the agent is gone: the rank ends at once.
struct RankConfig {
  std::string jobUid;
  std::string job;  // namespace/name, for people who read a checkpoint's manifest
  std::int64_t generation = 0;
  std::int32_t rank = 0;
  std::int32_t localRank = 0;  // the GPU's index in this pod
  std::int32_t worldSize = 1;
  std::int32_t threads = 1;
  Rendezvous rendezvous;
  std::string bindAddress;  // the pod's IP: Gloo and NCCL bind to it
  TrainingJobSpec spec;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("jobUid", self.jobUid);
    field("job", self.job);
    field("generation", self.generation);
    field("rank", self.rank);
    field("localRank", self.localRank);
    field("worldSize", self.worldSize);
    field("threads", self.threads);
    field("rendezvous", self.rendezvous);
    field("bindAddress", self.bindAddress);
    field("spec", self.spec);
  }
  bool operator==(const RankConfig&) const = default;
};

/// The mutable part of an assignment, handed on to the rank. All ranks act on it at the same step, whoever hears it first.
struct RankControl {
  std::int64_t checkpointRequest = 0;
  std::optional<std::int64_t> stopAfter;

  template <class Self, class Visitor>
  static void describe(Self& self, Visitor&& field) {
    field("checkpointRequest", self.checkpointRequest);
    field("stopAfter", self.stopAfter);
  }
  bool operator==(const RankControl&) const = default;
};

}  // namespace trainyard::contract
