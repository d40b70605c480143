#include "worker/agent/yaml_json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <sstream>
#include <string_view>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

namespace trainyard::agent {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const YAML::Mark& mark, const std::string& why) {
  throw YamlError("line " + std::to_string(mark.line + 1) + ", column " + std::to_string(mark.column + 1) + ": " + why);
}

template <std::size_t N>
bool is_one_of(std::string_view text, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

constexpr std::array<std::string_view, 5> kNull = {"", "~", "null", "Null", "NULL"};
constexpr std::array<std::string_view, 9> kTrue = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"};
constexpr std::array<std::string_view, 9> kFalse = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"};

bool is_whole_number(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  const bool digits = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits && (text.size() == 1 || text[0] != '0');  // 010 is 8 to some readers and 10 to others: a string here
}

bool is_number_with_point(std::string_view text) {
  if (text.find('.') == std::string_view::npos) return false;
  const std::size_t start = text[0] == '-' || text[0] == '+' ? 1 : 0;
  if (start == text.size() || (text[start] != '.' && (text[start] < '0' || text[start] > '9'))) return false;
  return std::any_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
         text.find_first_not_of("0123456789.eE+-") == std::string_view::npos;
}

Json plain_scalar(const std::string& text) {
  if (is_one_of(text, kNull)) return nullptr;
  if (is_one_of(text, kTrue)) return true;
  if (is_one_of(text, kFalse)) return false;
  const char* begin = text.data() + (text[0] == '+' ? 1 : 0);
  const char* end = text.data() + text.size();
  if (is_whole_number(text)) {
    std::int64_t value = 0;
    if (const auto parsed = std::from_chars(begin, end, value); parsed.ec == std::errc() && parsed.ptr == end) return value;
  }
  if (is_whole_number(text) || is_number_with_point(text)) {
    double value = 0;
    if (const auto parsed = std::from_chars(begin, end, value); parsed.ec == std::errc() && parsed.ptr == end) return value;
  }
  return text;
}

constexpr int kDeepest = 100;
constexpr std::int64_t kMostValues = 1'000'000;

/// `values`: so many there were before it. An alias may stand for what it lies in, and a few lines of aliases for more than any memory
/// holds.
Json convert(const YAML::Node& node, int depth, std::int64_t& values) {
  if (depth > kDeepest) refuse(node.Mark(), "nests deeper than 100 levels, or an alias stands for what it lies in");
  if (++values > kMostValues) refuse(node.Mark(), "the aliases up to here stand for more than 1,000,000 values");
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null: return nullptr;
    case YAML::NodeType::Scalar:
      // yaml-cpp marks quoted scalars with the tag "!", plain ones with "?".
      if (node.Tag() == "!" || node.Tag() == "tag:yaml.org,2002:str") return node.Scalar();
      return plain_scalar(node.Scalar());
    case YAML::NodeType::Sequence: {
      Json out = Json::array();
      for (const auto& item : node) out.push_back(convert(item, depth + 1, values));
      return out;
    }
    case YAML::NodeType::Map: break;
  }
  Json out = Json::object();
  for (const auto& item : node) {
    if (!item.first.IsScalar()) refuse(item.first.Mark(), "a key must be a string");
    const std::string& key = item.first.Scalar();
    if (out.contains(key)) refuse(item.first.Mark(), "the key " + key + " occurs twice in one mapping");
    out[key] = convert(item.second, depth + 1, values);
  }
  return out;
}

/// Refuses a comma where a document would start: yaml-cpp's parser says that there is an empty document, and leaves the comma there, so that
/// 0.7's LoadAll finds one after the other for ever, and later ones drop what follows (github.com/jbeder/yaml-cpp/issues/1040).
class ParserMovesOn final : public YAML::EventHandler {
 public:
  static void check(const std::string& text) {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    ParserMovesOn handler;
    while (parser.HandleNextDocument(handler)) {
    }
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (mark.pos == last_) throw YAML::ParserException(mark, "a comma outside of [ ] and { }: no document can start with it");
    last_ = mark.pos;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnAlias(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnScalar(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {}
  void OnSequenceStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {}
  void OnMapEnd() override {}

 private:
  std::optional<int> last_;  // where the last document started, in bytes
};

/// Editors that indent by tabs make files that look right, and the parser often tells of what comes after.
bool is_indented_by_a_tab(const std::string& text, int line) {
  std::istringstream lines(text);
  std::string content;
  for (int i = 0; i <= line; ++i) std::getline(lines, content);
  const std::size_t end_of_indentation = content.find_first_not_of(" \t");
  return content.substr(0, end_of_indentation).find('\t') != std::string::npos;
}

}  // namespace

std::vector<Json> json_of_yaml(const std::string& text) {
  std::vector<Json> out;
  std::int64_t values = 0;
  try {
    ParserMovesOn::check(text);
    for (const auto& document : YAML::LoadAll(text)) {
      if (!document.IsNull()) out.push_back(convert(document, 0, values));
    }
  } catch (const YAML::Exception& error) {
    const bool has_tab = is_indented_by_a_tab(text, error.mark.line);
    refuse(error.mark, error.msg + (has_tab ? "; YAML allows no tabs for indentation, and this line has one: use spaces" : ""));
  }
  return out;
}

}  // namespace trainyard::agent
