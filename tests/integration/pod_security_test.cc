// Namespaces under the restricted profile of the Pod Security Standards, as kube-apiserver enforces it. What it allows runs; what it
// refuses is told in its words, and not asked about again and again. The cases are those of k8s.io/pod-security-admission/policy.

#include <fstream>
#include <thread>

#include "tests/integration/built_controller.h"

namespace trainyard {
namespace {

const std::string kNamespace = "/api/v1/namespaces/restricted";
const std::string kRestrictedJobs = "/apis/trainyard.dev/v1alpha1/namespaces/restricted/trainingjobs";

constexpr const char* kAuditPolicy = R"(apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["system:serviceaccount:default:trainyard"]}
- {level: None}
)";

struct UnderTheRestrictedProfile : BuiltController {
  static void SetUpTestSuite() {
    audit_ = std::make_unique<testing::TemporaryFolder>();
    install({}, {"--audit-policy-file=" + audit_->write("policy.yaml", kAuditPolicy).string(), "--audit-log-path=" + log()});
    kube::RestKubeApi admin(kube::read_kubeconfig({.files = {server_->kubeconfig()}}));
    const Json labels = {{"pod-security.kubernetes.io/enforce", "restricted"}};
    const Json made = {{"metadata", {{"name", "restricted"}, {"labels", labels}}}};
    ASSERT_TRUE(admin.perform({.method = Method::kPost, .path = "/api/v1/namespaces", .body = made}).ok());
  }
  static void TearDownTestSuite() {
    BuiltController::TearDownTestSuite();
    audit_.reset();
  }
  ~UnderTheRestrictedProfile() override {
    for (const auto& path : {kRestrictedJobs, kNamespace + "/pods"}) {
      perform(Method::kDelete, path, {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}, {"gracePeriodSeconds", 0}});
    }
  }
  static std::string log() { return (audit_->path() / "audit.log").string(); }
  /// What the controller asked of the API server so far, without its Lease and its watches.
  static int num_requests() {
    std::ifstream lines(log());
    int count = 0;
    for (std::string line; std::getline(lines, line);) {
      count += line.find("/leases") == std::string::npos && line.find("watch=true") == std::string::npos;
    }
    return count;
  }

  /// What our own engine's pods get where their template is silent; those of another engine run as they are written.
  static void secure(Json& pod_spec) {
    Json& worker = pod_spec["containers"][0];
    Json of_pod = {{"runAsNonRoot", true}, {"seccompProfile", {{"type", "RuntimeDefault"}}}};
    of_pod.merge_patch(pod_spec.value("securityContext", Json::object()));
    pod_spec["securityContext"] = of_pod;
    Json of_worker = {{"allowPrivilegeEscalation", false}, {"capabilities", {{"drop", Json::array({"ALL"})}}}};
    of_worker.merge_patch(worker.value("securityContext", Json::object()));
    if (of_worker.value("privileged", false)) of_worker.erase("allowPrivilegeEscalation");
    worker["securityContext"] = of_worker;
  }
  /// One worker; `pod_spec` is what the template says, with one container for most of them.
  static Json job_of(const std::string& name, const std::string& pod_spec, bool is_custom) {
    Json out = job(name, 1, 0);
    out["spec"]["workers"]["template"]["spec"] = crd_test::json_from(YAML::Load(pod_spec));
    out["spec"]["placement"] = {{"binding", "Scheduler"}};  // what Direct does not check is for others to judge here
    if (!is_custom) return out;
    out["spec"]["engine"] = "Custom";
    secure(out["spec"]["workers"]["template"]["spec"]);
    for (const char* part : {"model", "data", "training"}) out["spec"].erase(part);
    return out;
  }

  inline static std::unique_ptr<testing::TemporaryFolder> audit_;
};

struct Case {
  const char* name;
  const char* pod_spec;
  const char* words = "";
};

#define WORKER "containers: [{name: worker, image: 'nothing.test/worker:1', resources: {requests: {cpu: 10m}}"

const std::vector<Case> kAllowed{
    {"silent", WORKER "}]"},
    {"config-map", WORKER "}]\nvolumes: [{name: v, configMap: {name: c}}]"},
    {"csi", WORKER "}]\nvolumes: [{name: v, csi: {driver: csi.example.com}}]"},
    {"downward-api", WORKER "}]\nvolumes: [{name: v, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.name}}]}}]"},
    {"empty-dir", WORKER "}]\nvolumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 1Gi}}]"},
    {"ephemeral",
     WORKER "}]\nvolumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: "
            "{requests: {storage: 1Gi}}}}}}]"},
    {"image", WORKER "}]\nvolumes: [{name: v, image: {reference: 'nothing.test/data:1'}}]"},
    {"claim", WORKER "}]\nvolumes: [{name: v, persistentVolumeClaim: {claimName: checkpoints}}]"},
    {"projected", WORKER
     "}]\nserviceAccountName: default\nvolumes: [{name: v, projected: {sources: [{configMap: {name: c}}, {secret: {name: s}}, "
     "{serviceAccountToken: {path: t}}]}}]"},
    {"secret", WORKER "}]\nvolumes: [{name: v, secret: {secretName: s}}]"},
    {"users",
     WORKER ", securityContext: {runAsUser: 1000, runAsGroup: 1000, readOnlyRootFilesystem: true}}]\n"
            "securityContext: {runAsUser: 1001, fsGroup: 1000, supplementalGroups: [5], fsGroupChangePolicy: OnRootMismatch}"},
    {"user-namespace", WORKER ", securityContext: {runAsNonRoot: false, runAsUser: 0}}]\nhostUsers: false"},
    {"net-bind", WORKER ", securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}}]"},
    {"seccomp", WORKER ", securityContext: {seccompProfile: {type: Localhost, localhostProfile: p.json}}}]"},
    {"apparmor", WORKER "}]\nsecurityContext: {appArmorProfile: {type: RuntimeDefault}}"},
    {"selinux", WORKER "}]\nsecurityContext: {seLinuxOptions: {type: container_t, level: 's0:c1'}}"},
    {"sysctl", WORKER "}]\nsecurityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '0'}]}"},
    {"proc-mount", WORKER ", securityContext: {procMount: Default}}]"},
    {"probes", WORKER ", livenessProbe: {httpGet: {port: 80, path: /}}, lifecycle: {preStop: {exec: {command: [a]}}}}]"},
    {"sidecar",
     WORKER "}, {name: x, image: 'nothing.test/x:1', securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: "
            "[ALL]}}}]\ninitContainers: [{name: i, image: 'nothing.test/i:1', restartPolicy: Always, securityContext: "
            "{allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]"},
};

const std::vector<Case> kRefused{
    {"host-path", WORKER "}]\nvolumes: [{name: v, hostPath: {path: /}}]", R"(restricted volume type "hostPath")"},
    {"nfs", WORKER "}]\nvolumes: [{name: v, nfs: {server: s, path: /}}]", R"(restricted volume type "nfs")"},
    {"iscsi", WORKER "}]\nvolumes: [{name: v, iscsi: {targetPortal: '1.2.3.4', iqn: 'iqn.2001-04.com.example:a', lun: 0}}]",
     R"(restricted volume type "iscsi")"},
    {"fc", WORKER "}]\nvolumes: [{name: v, fc: {targetWWNs: [a], lun: 0}}]", R"(restricted volume type "fc")"},
    {"ceph", WORKER "}]\nvolumes: [{name: v, cephfs: {monitors: [m]}}]", R"(restricted volume type "cephfs")"},
    {"flex", WORKER "}]\nvolumes: [{name: v, flexVolume: {driver: a/b}}]", R"(restricted volume type "flexVolume")"},
    {"host-network", WORKER "}]\nhostNetwork: true", "host namespaces (hostNetwork=true)"},
    {"host-pid", WORKER "}]\nhostPID: true", "host namespaces (hostPID=true)"},
    {"host-ipc", WORKER "}]\nhostIPC: true", "host namespaces (hostIPC=true)"},
    {"host-port", WORKER ", ports: [{containerPort: 80, hostPort: 80}]}]", "hostPort"},
    {"privileged", WORKER ", securityContext: {privileged: true}}]", "must not set securityContext.privileged=true"},
    {"escalation", WORKER ", securityContext: {allowPrivilegeEscalation: true}}]", "allowPrivilegeEscalation != false"},
    {"capability", WORKER ", securityContext: {capabilities: {drop: [ALL], add: [SYS_ADMIN]}}}]", R"("SYS_ADMIN")"},
    {"keeps-capabilities", WORKER ", securityContext: {capabilities: {drop: [NET_RAW]}}}]",
     R"(must set securityContext.capabilities.drop=["ALL"])"},
    {"may-be-root", WORKER "}]\nsecurityContext: {runAsNonRoot: false}", "runAsNonRoot != true"},
    {"root", WORKER ", securityContext: {runAsUser: 0}}]", "runAsUser=0"},
    {"unconfined", WORKER "}]\nsecurityContext: {seccompProfile: {type: Unconfined}}", "seccompProfile"},
    {"proc-mount", WORKER ", securityContext: {procMount: Unmasked}}]\nhostUsers: false", "procMount"},
    {"sysctl", WORKER "}]\nsecurityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}", "forbidden sysctls (kernel.msgmax)"},
    {"apparmor", WORKER "}]\nsecurityContext: {appArmorProfile: {type: Unconfined}}", "forbidden AppArmor profile"},
    {"selinux", WORKER "}]\nsecurityContext: {seLinuxOptions: {type: spc_t}}", "seLinuxOptions"},
    {"probe", WORKER ", livenessProbe: {httpGet: {port: 80, host: example.com}}}]", "probe or lifecycle host"},
    {"silent-sidecar", WORKER "}, {name: x, image: 'nothing.test/x:1'}]",
     R"(container "x" must set securityContext.allowPrivilegeEscalation=false)"},
    {"silent-init", WORKER "}]\ninitContainers: [{name: i, image: 'nothing.test/i:1'}]",
     R"(container "i" must set securityContext.allowPrivilegeEscalation=false)"},
};

TEST_F(UnderTheRestrictedProfile, EveryKindOfPodRunsThatItAllows) {
  perform(
      Method::kPost, kNamespace + "/persistentvolumeclaims",
      {{"metadata", {{"name", "checkpoints"}}},
       {"spec",
        {{"accessModes", {"ReadWriteMany"}}, {"storageClassName", ""}, {"resources", {{"requests", {{"storage", "1Gi"}}}}}}}});
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  std::size_t pods = 0;
  for (const bool is_custom : {false, true}) {
    for (const auto& each : kAllowed) {
      apply(job_of(each.name + std::string(is_custom ? "-custom" : ""), each.pod_spec, is_custom), kRestrictedJobs);
      ++pods;
    }
  }
  const Json made = eventually(kNamespace + "/pods", [&](const Json& list) { return list.at("items").size() == pods; });
  if (made.at("items").size() == pods) return;
  const Json jobs = api_.perform({.path = kRestrictedJobs}).body;
  for (const auto& item : jobs.at("items")) {
    EXPECT_EQ(condition(item, "Accepted"), "True") << item["metadata"]["name"] << ": " << condition(item, "Accepted", "message");
  }
}

TEST_F(UnderTheRestrictedProfile, WhatItRefusesIsToldInItsWordsAndAskedAboutOnce) {
  const auto controller = start("one");
  ASSERT_TRUE(controller->line_with("acting"));
  for (const bool is_custom : {false, true}) {
    for (const auto& each : kRefused) {
      apply(job_of(each.name + std::string(is_custom ? "-custom" : ""), each.pod_spec, is_custom), kRestrictedJobs);
    }
  }
  for (const bool is_custom : {false, true}) {
    for (const auto& each : kRefused) {
      const std::string name = each.name + std::string(is_custom ? "-custom" : "");
      const Json told =
          eventually(kRestrictedJobs + "/" + name, [](const Json& object) { return condition(object, "Accepted") == "False"; });
      EXPECT_EQ(condition(told, "Accepted", "reason"), "TemplateRefused");
      const std::string message = condition(told, "Accepted", "message");
      EXPECT_NE(message.find("violates PodSecurity \"restricted:latest\""), std::string::npos) << name << ": " << message;
      EXPECT_NE(message.find(each.words), std::string::npos) << name << ": " << message;
    }
  }
  EXPECT_TRUE(api_.perform({.path = kNamespace + "/pods"}).body.at("items").empty());
  std::this_thread::sleep_for(std::chrono::seconds(2));  // of events
  const int before = num_requests();
  EXPECT_GT(before, static_cast<int>(kRefused.size())) << "each was asked about";
  std::this_thread::sleep_for(std::chrono::seconds(5));
  EXPECT_LE(num_requests() - before, 5);
}

}  // namespace
}  // namespace trainyard
