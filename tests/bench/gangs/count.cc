#include "tests/bench/gangs/count.h"

#include <stdexcept>
#include <utility>

#include <boost/system/system_error.hpp>

namespace trainyard::bench {
namespace {

constexpr std::chrono::milliseconds kLimit{180'000}, kLimitEach{20}, kBetweenTries{100};

}  // namespace

Count::Count(testing::SimulatedCluster& cluster, const std::string& collection, std::string text)
    : credentials_(cluster.credentials()), collection_(collection), text_(std::move(text)) {
  const auto list = cluster.api().perform({.path = collection, .query = {{"limit", "1"}}});
  version_ = list.body.at("metadata").at("resourceVersion");
  thread_ = std::jthread([this] { watch(); });
}

Count::~Count() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
  if (wire_) wire_->shut();
}

Clock::time_point Count::reached(std::size_t number) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kLimit + number * kLimitEach, [&] { return times_.size() >= number; })) {
    throw std::runtime_error("only " + std::to_string(times_.size()) + " of " + std::to_string(number) + " objects had " + text_);
  }
  return times_[number - 1];
}

/// The server ends the watches of a kind whose definition it has just taken in once more, and where it is busy some before their first word.
void Count::watch() {
  while (true) {
    try {
      Wire* wire = nullptr;
      {
        const std::lock_guard lock(mutex_);
        if (ended_) return;
        wire_ = std::make_unique<Wire>(credentials_);
        wire = wire_.get();
      }
      wire->read_lines(collection_ + "?watch=1&resourceVersion=" + version_,
                       [this](const std::string& line) { return heard(line); });
    } catch (const boost::system::system_error&) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kBetweenTries, [this] { return ended_; });
    }
  }
}

bool Count::heard(const std::string& line) {
  const auto now = Clock::now();
  static const std::string kVersion = R"("resourceVersion":")";
  if (const auto at = line.find(kVersion); at != std::string::npos) {
    version_ = line.substr(at + kVersion.size(), line.find('"', at + kVersion.size()) - at - kVersion.size());
  }
  if (line.find(text_) == std::string::npos) return true;
  static const std::string kName = R"("name":")";  // the first is that of the metadata
  const auto at = line.find(kName);
  if (at == std::string::npos) return true;
  const auto from = at + kName.size();
  const std::lock_guard lock(mutex_);
  if (names_.insert(line.substr(from, line.find('"', from) - from)).second) times_.push_back(now);
  changed_.notify_all();
  return true;
}

}  // namespace trainyard::bench
