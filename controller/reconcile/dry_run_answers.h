#pragma once
// What the API server said to dry runs, for those that ask the same: of jobs that are created together many have the same template.

#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <string>

#include "controller/decide/plan.h"
#include "controller/kube/kube_api.h"

namespace trainyard::reconcile {

/// The same, 64 digits, for pods of one namespace that differ in nothing but what follows from their jobs' names and UIDs. What of that could be
/// the template's own is in the template's hash. Of any JSON. Throws std::runtime_error when OpenSSL fails.
std::string likeness(const decide::DryRunPod& ask);

/// What an answer to a dry run says of the template, for the cluster.
decide::TemplateCheck template_check(const decide::DryRunPod& ask, const kube::Response& response, decide::Time now);

/// The last so many that were a yes, each for a while. Lives on the brain.
class DryRunAnswers {
 public:
  static constexpr std::chrono::milliseconds kLasts{30'000};
  static constexpr std::size_t kMost = 256;  // of a sweep whose jobs differ each asks for itself, and nobody asks again

  /// `now` is uptime. Nothing where nobody asked, or too long ago.
  const decide::TemplateCheck* find(const std::string& likeness, std::chrono::milliseconds now) const;
  void put(const std::string& likeness, decide::TemplateCheck check, std::chrono::milliseconds now);
  void clear();
  std::size_t size() const { return answers_.size(); }

 private:
  struct Answer {
    decide::TemplateCheck check;
    std::chrono::milliseconds until{0};
  };
  void forget_first();

  std::map<std::string, Answer> answers_;
  std::deque<std::string> in_order_;  // of their ends
};

}  // namespace trainyard::reconcile
