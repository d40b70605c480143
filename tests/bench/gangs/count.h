#pragma once
// Waits, by a watch, until so many objects are as wanted.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/gangs/bare_client.h"
#include "tests/support/simulated_cluster.h"

namespace trainyard::bench {

/// Counts the objects of a collection of which the watch has shown a certain text, by name. A line is searched, not parsed: what
/// measures has the same two cores as what is measured.
class Count {
 public:
  Count(testing::SimulatedCluster& cluster, const std::string& collection, std::string text);
  ~Count();
  Count(const Count&) = delete;
  Count& operator=(const Count&) = delete;

  /// When the number was reached. Throws std::runtime_error where that takes too long.
  Clock::time_point reached(std::size_t number);

 private:
  void watch();
  bool heard(const std::string& line);

  const kube::Credentials credentials_;
  const std::string collection_, text_;
  std::string version_;  // the watch's alone
  std::mutex mutex_;
  bool ended_ = false;
  std::unique_ptr<Wire> wire_;
  std::condition_variable changed_;
  std::set<std::string> names_;
  std::vector<Clock::time_point> times_;
  std::jthread thread_;
};

}  // namespace trainyard::bench
