#include "tests/support/fake_programs.h"

#include <algorithm>
#include <utility>

#include "crds/contract/names.h"

namespace trainyard::test {
namespace {

using contract::Json;

constexpr milliseconds kMeetLow{100}, kMeetHigh{3'000}, kEndsWithin{2'000};

std::string variable(const Json& container, const char* name) {
  for (const auto& item : container.value("env", Json::array())) {
    if (item.value("name", "") == name) return item.value("value", "");
  }
  return "";
}

}  // namespace

std::optional<FakePrograms::Program> FakePrograms::of_pod(const Json& pod, const std::string& node) {
  const Json& container = pod.at("spec").at("containers").at(0);
  for (const auto& port : container.value("ports", Json::array())) {
    if (port.value("name", "") == contract::kPortName) return std::nullopt;
  }
  Program out{.pod_uid = pod.at("metadata").at("uid"),
              .job_uid = pod.at("metadata").at("ownerReferences").at(0).at("uid"),
              .node = node,
              .master = variable(container, "MASTER_ADDR")};
  if (out.master == "localhost") out.master += " in " + out.pod_uid;  // each pod has its own
  out.master += " of " + out.job_uid;
  out.rank = std::stoi(variable(container, "NODE_RANK"));
  out.nodes = std::stoi(variable(container, "PET_NNODES"));
  out.work = seconds(std::stoi(container.at("args").at(0).get<std::string>()));
  return out;
}

void FakePrograms::start(const Program& program) {
  running_[program.pod_uid] = program;
  time_.after(time_.random_time(kMeetLow, kMeetHigh), [this, uid = program.pod_uid] {
    const auto found = running_.find(uid);
    if (found == running_.end()) return;
    const Program& here = found->second;
    Gang& gang = gangs_[here.master];
    gang.job_uid = here.job_uid;
    gang.nodes = here.nodes;
    gang.members.insert(uid);
    if (static_cast<int>(gang.members.size()) == gang.nodes && !gang.works && gang.done.empty()) work(here.master, here.work);
  });
}

void FakePrograms::work(const std::string& master, seconds how_long) {
  Gang& gang = gangs_[master];
  gang.works = true;
  for (const auto& [name, other] : gangs_) {
    // Nobody can end one on a node that is cut off, and one that comes back with its node has its grace.
    const bool is_out_of_hand = std::any_of(other.members.begin(), other.members.end(), [this](const std::string& uid) {
      const auto found = running_.find(uid);
      return found != running_.end() && (found->second.is_told_to_end || cut_off_.contains(found->second.node));
    });
    if (name != master && other.job_uid == gang.job_uid && other.works && !is_out_of_hand) {
      violations_.push_back("two gangs of a job work at once: " + name + " and " + master);
    }
  }
  time_.after(how_long, [this, master] {
    Gang& now = gangs_[master];
    if (!std::exchange(now.works, false)) return;
    const auto members = now.members;
    for (const auto& uid : members) end_later(uid, 0, "", kEndsWithin);
  });
}

void FakePrograms::end_later(const std::string& pod_uid, int exit_code, const std::string& message, milliseconds at_most) {
  time_.after(time_.random_time(milliseconds(1), at_most),
              [this, pod_uid, exit_code, message] { end(pod_uid, exit_code, message); });
}

void FakePrograms::end(const std::string& pod_uid, int exit_code, const std::string& message) {
  if (!is_running(pod_uid)) return;
  leave(pod_uid, exit_code == 0 && message.empty());
  exited(pod_uid, exit_code, message);
}

void FakePrograms::leave(const std::string& pod_uid, bool is_done) {
  const std::string master = running_.at(pod_uid).master;
  running_.erase(pod_uid);
  Gang& gang = gangs_[master];
  gang.members.erase(pod_uid);
  if (is_done) {
    gang.done.insert(pod_uid);
    if (static_cast<int>(gang.done.size()) == gang.nodes) finished_.insert(gang.job_uid);
    return;
  }
  gang.works = false;
  for (const auto& uid : gang.members) end_later(uid, 1, "RuntimeError: Connection closed by peer", kEndsWithin);
}

void FakePrograms::terminate(const std::string& pod_uid) {
  if (is_running(pod_uid)) running_[pod_uid].is_told_to_end = true;
  if (is_running(pod_uid) && !time_.one_in(4)) end_later(pod_uid, time_.one_in(2) ? 0 : 143, "asked to end", kEndsWithin);
}

void FakePrograms::kill(const std::string& pod_uid) {
  if (is_running(pod_uid)) leave(pod_uid, false);
}

bool FakePrograms::crash(const std::string& pod_uid, int exit_code, const std::string& message) {
  if (!is_running(pod_uid)) return false;
  end(pod_uid, exit_code, message);
  return true;
}

}  // namespace trainyard::test
