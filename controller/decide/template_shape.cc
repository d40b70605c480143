#include "controller/decide/template_shape.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "controller/decide/json_lookup.h"
#include "crds/contract/shortened.h"

namespace trainyard::decide {
namespace {

using contract::Json;
using contract::Problem;

enum class Kind { kObject, kList };
struct Field {
  std::string_view path;  // [] is each item
  Kind kind;
};

constexpr std::size_t kQuotedBytes = 64;

constexpr auto kFields = std::to_array<Field>({
    {".metadata", Kind::kObject},
    {".metadata.labels", Kind::kObject},
    {".metadata.annotations", Kind::kObject},
    {".spec.securityContext", Kind::kObject},
    {".spec.affinity", Kind::kObject},
    {".spec.affinity.nodeAffinity", Kind::kObject},
    {".spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", Kind::kObject},
    {".spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms", Kind::kList},
    {".spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[]", Kind::kObject},
    {".spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[].matchFields", Kind::kList},
    {".spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution", Kind::kList},
    {".spec.tolerations", Kind::kList},
    {".spec.tolerations[]", Kind::kObject},
    {".spec.volumes", Kind::kList},
    {".spec.volumes[]", Kind::kObject},
    {".spec.initContainers", Kind::kList},
    {".spec.initContainers[]", Kind::kObject},
    {".spec.initContainers[].env", Kind::kList},
    {".spec.initContainers[].env[]", Kind::kObject},
    {".spec.initContainers[].volumeMounts", Kind::kList},
    {".spec.containers[].env", Kind::kList},
    {".spec.containers[].env[]", Kind::kObject},
    {".spec.containers[].ports", Kind::kList},
    {".spec.containers[].ports[]", Kind::kObject},
    {".spec.containers[].volumeMounts", Kind::kList},
    {".spec.containers[].volumeMounts[]", Kind::kObject},
    {".spec.containers[].resources", Kind::kObject},
    {".spec.containers[].resources.requests", Kind::kObject},
    {".spec.containers[].resources.limits", Kind::kObject},
    {".spec.containers[].securityContext", Kind::kObject},
    {".spec.containers[].securityContext.capabilities", Kind::kObject},
});

/// The path with the items' numbers in it.
std::string path_text(std::string_view path, const std::vector<std::size_t>& items) {
  std::string out = "spec.workers.template";
  std::size_t item = 0;
  for (std::size_t at = path.find("[]"); at != std::string_view::npos; at = path.find("[]")) {
    out += std::string(path.substr(0, at)) + "[" + std::to_string(items[item++]) + "]";
    path.remove_prefix(at + 2);
  }
  return out + std::string(path);
}

class Check {
 public:
  Check(const Field& field, std::vector<Problem>& problems) : field_(field), problems_(problems) {}

  /// `rest`: of the path, from `json` on.
  void visit(const Json& json, std::string_view rest) {
    if (rest.empty()) return judge(json);
    if (rest.starts_with("[]")) {
      if (!json.is_array()) return;
      for (std::size_t i = 0; i < json.size(); ++i) {
        items_.push_back(i);
        visit(json[i], rest.substr(2));
        items_.pop_back();
      }
      return;
    }
    const std::size_t end = std::min(rest.find_first_of(".[", 1), rest.size());
    visit(member(json, std::string(rest.substr(1, end - 1)).c_str()), rest.substr(end));
  }

 private:
  void judge(const Json& json) {
    const bool is_object = field_.kind == Kind::kObject, is_item = field_.path.ends_with("[]");
    if (is_object ? json.is_object() : json.is_array()) return;
    if (json.is_null() && !is_item) return;
    const std::string found = contract::shortened(json.dump(-1, ' ', false, Json::error_handler_t::replace), kQuotedBytes);
    problems_.push_back(
        {path_text(field_.path, items_), std::string(is_object ? "must be an object" : "must be a list") + ", and is " + found});
  }

  const Field& field_;
  std::vector<Problem>& problems_;
  std::vector<std::size_t> items_;
};

}  // namespace

std::vector<Problem> shape_problems(const Json& templ) {
  std::vector<Problem> problems;
  for (const auto& field : kFields) Check(field, problems).visit(templ, field.path);
  return problems;
}

}  // namespace trainyard::decide
