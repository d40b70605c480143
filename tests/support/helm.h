#pragma once
// Helm, with the project's chart, against a real API server.

#include <string>
#include <vector>

#include "tests/paths.h"
#include "tests/support/api_server.h"
#include "tests/support/program.h"

namespace trainyard::testing {

/// `words` are helm's own: {"install", "trainyard"}. Where they install or upgrade, the chart and the images that it wants are added.
inline Program helm(const ApiServer& server, std::vector<std::string> words) {
  if (words.front() == "install" || words.front() == "upgrade") {
    words.insert(words.end(), {test::kSourceDir + std::string("/helm"), "--set=image.repository=nothing.test/controller",
                               "--set=worker.image.repository=nothing.test/worker"});
  }
  words.push_back("--kubeconfig=" + server.kubeconfig().string());
  return Program(test::kSourceDir + std::string("/.tools/kubernetes/bin/helm"), words);
}

}  // namespace trainyard::testing
