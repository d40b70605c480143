#pragma once
// kubeconfig files as kubectl reads them.
// Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and .../concepts/configuration/organize-cluster-access-kubeconfig/

#include <filesystem>
#include <string>
#include <vector>

#include "controller/kube/credentials.h"

namespace trainyard::kube {

struct KubeconfigSource {
  std::vector<std::filesystem::path> files;  // merged: of entries with one name, and of current-context, the first wins
  bool all_must_exist = false;               // else missing files are passed over, as kubectl does with those of KUBECONFIG
  std::string context;                       // empty: current-context
};

/// The context's cluster and user. Inline *-data goes before a file's path; relative paths start at the kubeconfig's folder. What
/// cannot work here is refused by name rather than ignored: exec and auth-provider plugins (no programs are started for
/// credentials), user and password, impersonation, proxy-url. Throws CredentialsError with every problem.
Credentials read_kubeconfig(const KubeconfigSource& source);

}  // namespace trainyard::kube
