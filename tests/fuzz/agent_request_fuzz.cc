// Requests that carry the signature of the job's key: each gets one answer, and of an assignment that is taken comes the state that it
// asks for, however often it comes. A signature of another key gets nothing.

#include <map>
#include <optional>

#include <boost/asio/io_context.hpp>

#include "crds/contract/signature.h"
#include "tests/fuzz/target.h"
#include "worker/agent/agent_service.h"

using namespace trainyard;
using fuzz::expect;

std::vector<std::string> fuzz::seeds() {
  contract::Assignment whole{.jobUid = "u", .job = "default/a", .generation = 1, .worker = 0, .ranks = {0, 1}, .worldSize = 4};
  whole.rendezvous = {.host = "10.0.0.1", .port = 29'500};
  whole.spec.checkpoint = contract::Checkpoint{.path = "/c"};
  contract::Assignment amendment{
      .jobUid = "u", .job = "default/a", .generation = 1, .amends = true, .checkpointRequest = 1, .stopAfter = 1};
  amendment.release = true;
  return {contract::encode(whole).dump(), contract::encode(amendment).dump(), "after=3&waitSeconds=30"};
}

namespace {

const std::string kKey(64, 'a');

class OneAgent : public agent::Assignee {
 public:
  agent::Answer assign(const contract::Assignment& assignment) override { return core_.assign(assignment, {}); }
  agent::Answer assign_unknown(const contract::Assignment& assignment, const std::vector<contract::Problem>& problems) override {
    return core_.assign(assignment, {}, problems);
  }
  void asked() override { core_.asked({}); }
  const contract::State& state() const override { return core_.state(); }
  std::int64_t ranks_started() const override { return core_.ranks_started(); }
  std::int64_t ranks_failed() const override { return core_.ranks_failed(); }
  const agent::Measured& measured() const override { return core_.measured(); }

 private:
  agent::AgentCore core_{agent::Worker{.pod_uid = "pod", .bind_address = "10.0.0.1", .node = "n"}, {}};
};

struct Served {
  boost::asio::io_context io;
  OneAgent assignee;
  agent::AgentService service{io, assignee, kKey};

  /// Nothing where it waits for news.
  std::optional<agent::HttpReply> ask(const std::string& method, const std::string& target, const std::string& body,
                                      const std::string& key = kKey) {
    std::map<std::string, std::string> headers;
    headers["trainyard-nonce"] = "n";
    headers["trainyard-signature"] =
        contract::sign(key, {.method = method, .target = target, .pod_uid = "pod", .nonce = "n", .body = body});
    std::optional<agent::HttpReply> reply;
    service.handle({.method = method, .target = target, .body = body, .headers = headers, .to_address = "10.0.0.1"},
                   [&reply](agent::HttpReply given) {
                     expect(!reply, "a request was answered twice");
                     reply = std::move(given);
                   });
    return reply;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string text(fuzz::text_of(bytes, size));
  Served served;
  expect(served.ask("PUT", "/v1/assignment", text, std::string(64, 'b'))->status == 401, "another key was obeyed");
  const auto reply = served.ask("PUT", "/v1/assignment", text);
  expect(reply && (reply->status == 200 || reply->status == 400 || reply->status == 409), "an assignment got no answer");
  const auto json = contract::Json::parse(reply->body, nullptr, false);
  if (reply->status == 200) {
    const auto state = contract::decode<contract::State>(json);
    const auto asked = contract::decode<contract::Assignment>(contract::Json::parse(text)).value;
    expect(state.problems.empty() && state.value.generation == asked.generation, "what was taken is not what is there");
    expect(served.ask("PUT", "/v1/assignment", text)->status == 200, "what was taken is refused");
  } else {
    expect(json.is_object() && json.contains("message") && !json["message"].get<std::string>().empty(), "a refusal has no words");
  }
  expect(served.ask("PUT", "/v1/assignment?" + text, "{}").has_value(), "a request got no answer");
  if (const auto polled = served.ask("GET", "/v1/state?" + text, "")) {
    expect(polled->status == 200 || polled->status == 400, "a poll got another answer");
  }
  expect(served.ask(text, text, text).has_value(), "a request got no answer");
  return 0;
}
