#pragma once
// Worker pods from the job's pod template. docs/operating.md lists what is added and why.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controller/decide/cluster.h"

namespace trainyard::decide {

/// What the controller itself sees that is wrong with the template, or that it could not keep: several containers and none called
/// worker, no image, fields that are the controller's or of another kind than what it adds to them, what binding Direct can't hold, amounts that are
/// no quantities. All at once.
std::vector<contract::Problem> template_problems(const contract::TrainingJobSpec& spec, const Settings& settings);

/// Names the template and what else its pods are made from. Two jobs with the same hash make the same pods, names aside.
std::string template_hash(const contract::TrainingJobSpec& spec, const Settings& settings);
/// The same of a job of a Cluster, which has its digest.
std::string template_hash(const Job& job, const Settings& settings);
/// All of the hash that follows from the spec: as long to find as the template is.
std::string template_digest(const contract::TrainingJobSpec& spec);

/// The image of the training container of pods that are made now.
std::string worker_image(const contract::TrainingJobSpec& spec, const Settings& settings);

/// How pods that are made now would differ from those of status.templateHash, for people: by what the user changed, or, after an
/// upgrade of the chart, by the default image. Empty where they would not.
std::string template_change(const Job& job, const Settings& settings);

/// Which worker, and where. Without a node the pod is for a dry run, or kube-scheduler chooses.
struct WorkerPlace {
  std::int32_t worker = 0;
  std::int64_t generation = 1;
  std::optional<std::string> node;
  std::optional<std::int32_t> num_workers = std::nullopt;  // of its gang; nothing: workers.count
  std::set<std::string> avoid{};                           // where kube-scheduler chooses the node: better none of these
  std::string pod_group{};                                 // empty: none
  std::optional<std::int32_t> spare = std::nullopt;        // it is no worker, but the spare of that number
};
/// Makes the pods of a gang. What is the same for all of them is made once: a gang has thousands. Of any template,
/// also of one with template_problems(), of which it makes what nobody would take. The job and the settings outlive this.
class WorkerPods {
 public:
  WorkerPods(const Job& job, const Settings& settings);
  WorkerPods(const Job&&, const Settings&) = delete;
  WorkerPods(const Job&, const Settings&&) = delete;
  /// The whole Pod.
  Json pod(const WorkerPlace& place) const;

 private:
  const Job& job_;
  const Settings& settings_;
  Json like_all_;  // of no place; no spec with the engine Custom, of whose workers each has an environment of its own
};
/// The one of them.
Json worker_pod(const Job& job, const Settings& settings, const WorkerPlace& place);

/// Whether the job's pods have an agent, which the controller polls: with the engine Trainyard always, with another where a container
/// declares the port `trainyard`.
bool has_agent(const contract::TrainingJobSpec& spec);

/// The memory limit of the container that trains, as the template has it; nothing where it has none.
std::optional<std::int64_t> memory_limit(const contract::TrainingJobSpec& spec);

/// The Secret with the job's key, for pods with an agent.
ObjectKey key_secret(const Job& job, const Settings& settings);

}  // namespace trainyard::decide
