#include "worker/trainer/trace_file.h"

#include <map>

#include "crds/contract/fields.h"

namespace trainyard::trainer {
namespace {

using contract::Json;

Json named(const char* what, std::int32_t rank, std::int32_t track, const std::string& name) {
  return {{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", track}, {"args", {{"name", name}}}};
}

}  // namespace

void write_trace(std::ostream& out, const std::vector<mesh::Event>& events, std::int32_t rank, double offset) {
  std::map<std::string, std::int32_t> tracks{{"work", 0}};
  for (const auto& event : events) tracks.emplace(event.track, static_cast<std::int32_t>(tracks.size()));
  out << R"({"displayTimeUnit":"ms","traceEvents":[)" << named("process_name", rank, 0, "rank " + std::to_string(rank));
  for (const auto& [name, track] : tracks) out << ",\n" << named("thread_name", rank, track, name);
  for (const auto& event : events) {
    Json args = Json::object();
    if (event.micro_batch >= 0) args["microBatch"] = event.micro_batch;
    if (event.chunk >= 0) args["chunk"] = event.chunk;
    if (event.number > 0) args["number"] = event.number;
    if (event.elements > 0) args["elements"] = event.elements;
    const Json line{{"ph", "X"},
                    {"name", event.micro_batch >= 0 ? event.name + " " + std::to_string(event.micro_batch) : event.name},
                    {"cat", event.track},
                    {"pid", rank},
                    {"tid", tracks.at(event.track)},
                    {"ts", (event.begin + offset) * 1e6},  // microseconds
                    {"dur", (event.end - event.begin) * 1e6},
                    {"args", std::move(args)}};
    out << ",\n" << line;
  }
  out << "]}\n";
}

}  // namespace trainyard::trainer
