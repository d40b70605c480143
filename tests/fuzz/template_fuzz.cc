// A pod template, which nobody has checked before the controller sees it: problems in words or none, and in either case a pod that says of its
// place what it was made for, whatever stands beside it; of which the API server is asked, and whose answer is taken.

#include "controller/cache/decode.h"
#include "controller/decide/pod_template.h"
#include "controller/reconcile/dry_run_answers.h"
#include "crds/contract/parse_json.h"
#include "tests/fuzz/target.h"
#include "tests/support/builders.h"

using namespace trainyard;
using contract::Json;
using fuzz::expect;

std::vector<std::string> fuzz::seeds() {
  return {
      R"({"metadata": {"labels": {"team": "x", "trainyard.dev/worker-index": "0"}, "annotations": {"a": "b"}}, "spec": {"containers": [
          {"name": "worker", "image": "i", "command": ["c"], "env": [{"name": "A", "value": "b"}], "ports": [{"name": "trainyard", "containerPort": 1}],
           "volumeMounts": [{"name": "v", "mountPath": "/dev/shm"}], "securityContext": {"privileged": true, "capabilities": {"drop": ["ALL"]}},
           "resources": {"requests": {"cpu": "1"}, "limits": {"nvidia.com/gpu": 8, "memory": "1Gi"}}}, {"name": "sidecar", "env": [{"name": "B"}]}],
          "initContainers": [{"name": "i", "restartPolicy": "Always", "env": [{"name": "MASTER_ADDR", "value": "x"}]}]}})",
      R"({"spec": {"volumes": [{"name": "trainyard-key", "secret": {"secretName": "s"}}, {"name": "c", "persistentVolumeClaim": {"claimName": "c"}}],
          "tolerations": [{"key": "node.kubernetes.io/not-ready"}], "terminationGracePeriodSeconds": 5, "nodeSelector": {"a": "b"},
          "securityContext": {"fsGroup": 1}, "restartPolicy": "Never", "priorityClassName": "p", "overhead": {"cpu": "1"},
          "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": []}]},
                                        "preferredDuringSchedulingIgnoredDuringExecution": []}}}})",
      "{}"};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const Json templ = contract::parse_json(fuzz::text_of(bytes, size));
  if (templ.is_discarded()) return 0;
  const decide::Settings settings{.default_image = "trainyard.test/worker:dev"};
  const decide::WorkerPlace spare{.worker = -1, .generation = 2, .node = "n", .spare = 1};
  for (decide::Job job : {test::make_job("a", 2, 8), test::make_custom_job("a", 2, 0)}) {
    job.spec.workers.templ = templ;
    for (const auto binding : {contract::Binding::kDirect, contract::Binding::kScheduler}) {
      job.spec.placement.binding = binding;
      for (const auto& problem : decide::template_problems(job.spec, settings)) {
        expect(!problem.field.empty() && !problem.message.empty(), "a problem without a word");
      }
      Json made = decide::worker_pod(job, settings, spare);
      made["metadata"]["uid"] = "uid";
      const auto pod = cache::decode_pod(made);
      expect(pod && pod->worker && pod->worker->spare == 1 && pod->worker->generation == 2, "a spare is read as another pod");
      const Json dry = decide::worker_pod(job, settings, {.worker = 0, .generation = 2, .node = {}});
      const decide::DryRunPod ask{job.key, job.uid, decide::template_hash(job.spec, settings), dry};
      expect(reconcile::likeness(ask) == reconcile::likeness(ask), "a pod is not like itself");
      const auto check = reconcile::template_check(ask, {.status = 201, .body = dry}, {});
      expect(check.accepted && check == reconcile::template_check(ask, {.status = 409, .reason = "AlreadyExists"}, {}),
             "what a pod needs depends on who says it");
    }
  }
  return 0;
}
