#include "controller/reconcile/dry_run_answers.h"

#include <utility>

#include "controller/decide/json_lookup.h"
#include "controller/decide/node_filter.h"
#include "controller/reconcile/requests.h"
#include "crds/contract/names.h"
#include "crds/contract/signature.h"

namespace trainyard::reconcile {
namespace {

using contract::Json;
using std::chrono::milliseconds;

/// To be changed in place. Nothing where there is no such field.
Json* field(Json* json, const char* name) {
  if (json == nullptr || !json->is_object()) return nullptr;
  const auto found = json->find(name);
  return found == json->end() ? nullptr : &*found;
}

void erase(Json* json, std::string_view name) {
  if (json != nullptr && json->is_object()) json->erase(std::string(name));
}

/// Calls `visit` for each item of the list; for none where it is no list.
template <class Visit>
void for_each(Json* list, const Visit& visit) {
  if (list == nullptr || !list->is_array()) return;
  for (Json& item : *list) visit(item);
}

}  // namespace

std::string likeness(const decide::DryRunPod& ask) {
  Json pod = ask.body;
  Json* metadata = field(&pod, "metadata");
  for (const char* name : {"name", "ownerReferences"}) erase(metadata, name);
  erase(field(metadata, "labels"), contract::kJobLabel);
  Json* spec = field(&pod, "spec");
  for (const char* name : {"hostname", "subdomain"}) erase(spec, name);
  for_each(field(spec, "volumes"), [](Json& volume) {
    if (decide::member(volume, "name") == contract::kKeyVolume) erase(field(&volume, "secret"), "secretName");
  });
  for (const char* kind : {"initContainers", "containers"}) {
    for_each(field(spec, kind), [](Json& container) {
      for_each(field(&container, "env"), [](Json& variable) {
        const std::string name = decide::text_of(variable, "name");
        if (name == "MASTER_ADDR" || name == "PET_MASTER_ADDR") erase(&variable, "value");
      });
    });
  }
  return contract::digest(ask.job.ns + "/" + ask.template_hash + "/" + pod.dump(-1, ' ', false, Json::error_handler_t::replace));
}

decide::TemplateCheck template_check(const decide::DryRunPod& ask, const kube::Response& response, decide::Time now) {
  const bool over_quota = is_quota(response), accepted = response.ok() || response.is_already_exists() || over_quota;
  const Json& spec = decide::member(response.ok() ? response.body : ask.body, "spec");  // as admission left it, where it tells
  return {.accepted = accepted,
          .over_quota = over_quota,
          .message = accepted ? "" : response.message,
          .needs = decide::read_pod_needs(spec),
          .beyond_direct = decide::beyond_direct(spec),
          .at = now};
}

const decide::TemplateCheck* DryRunAnswers::find(const std::string& likeness, milliseconds now) const {
  const auto found = answers_.find(likeness);
  return found == answers_.end() || found->second.until <= now ? nullptr : &found->second.check;
}

void DryRunAnswers::put(const std::string& likeness, decide::TemplateCheck check, milliseconds now) {
  while (!in_order_.empty() && (in_order_.size() >= kMost || answers_.at(in_order_.front()).until <= now)) forget_first();
  const auto [at, is_new] = answers_.try_emplace(likeness, Answer{.check = std::move(check), .until = now + kLasts});
  if (is_new) in_order_.push_back(likeness);
}

void DryRunAnswers::clear() {
  answers_.clear();
  in_order_.clear();
}

void DryRunAnswers::forget_first() {
  answers_.erase(in_order_.front());
  in_order_.pop_front();
}

}  // namespace trainyard::reconcile
