#include "worker/agent/agent_service.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <list>
#include <optional>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "crds/contract/parse_json.h"
#include "crds/contract/signature.h"
#include "worker/agent/metrics.h"

namespace trainyard::agent {
namespace {

namespace asio = boost::asio;

constexpr std::int64_t kLongestWaitSeconds = 30;

/// A whole number from 0 on; `otherwise` where the text is empty, nothing where it is something else.
std::optional<std::int64_t> number(const std::string& text, std::int64_t otherwise) {
  if (text.empty()) return otherwise;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::string dump(const contract::Json& json) { return json.dump(-1, ' ', false, contract::Json::error_handler_t::replace); }

HttpReply message(unsigned status, const std::string& text) { return {.status = status, .body = dump({{"message", text}})}; }

std::string header(const HttpRequest& request, std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? std::string() : found->second;
}

}  // namespace

struct AgentService::Impl : std::enable_shared_from_this<Impl> {
  struct Waiter {
    std::int64_t after;
    HttpServer::Respond respond;
    asio::steady_timer timer;
  };

  Impl(asio::io_context& context, Assignee& given_agent, std::string given_key)
      : io(context), agent(given_agent), key(std::move(given_key)) {}

  HttpReply state_reply() const { return {.body = dump(contract::encode(agent.state()))}; }

  HttpReply put(const HttpRequest& request) {
    const auto json = contract::parse_json(request.body);
    if (json.is_discarded()) return message(400, "the body is not JSON, or nests too deep");
    const auto [assignment, problems] = contract::decode<contract::Assignment>(json, "", contract::UnknownFields::kRefuse);
    const bool only_in_spec = std::all_of(problems.begin(), problems.end(),
                                          [](const contract::Problem& problem) { return problem.field.starts_with("spec."); });
    if (!only_in_spec) return message(400, "the body is no assignment that this worker knows:\n" + contract::to_text(problems));
    const Answer answer = problems.empty() ? agent.assign(assignment) : agent.assign_unknown(assignment, problems);
    return answer.status == 200 ? state_reply() : message(answer.status, answer.message);
  }

  void poll(const HttpRequest& request, HttpServer::Respond respond) {
    const auto after = number(query_value(request.target, "after"), 0);
    const auto wait = number(query_value(request.target, "waitSeconds"), 0);
    if (!after || !wait) return respond(message(400, "after and waitSeconds must be whole numbers from 0 on"));
    if (*after != agent.state().version || *wait == 0) return respond(state_reply());
    auto& waiter = waiters.emplace_back(Waiter{.after = *after, .respond = std::move(respond), .timer = asio::steady_timer(io)});
    waiter.timer.expires_after(std::chrono::seconds(std::min(*wait, kLongestWaitSeconds)));
    waiter.timer.async_wait([weak = weak_from_this(), at = std::prev(waiters.end())](auto error) {
      const auto self = weak.lock();
      if (error || !self) return;  // cancelled: published() has answered
      const auto respond_now = std::move(at->respond);
      self->waiters.erase(at);
      respond_now(self->state_reply());
    });
  }

  void published() {
    for (auto at = waiters.begin(); at != waiters.end();) {
      // A timer that has already expired has its handler queued, and that handler answers.
      if (at->after == agent.state().version || at->timer.cancel() == 0) {
        ++at;
        continue;
      }
      at->respond(state_reply());
      at = waiters.erase(at);
    }
  }

  asio::io_context& io;
  Assignee& agent;
  const std::string key;
  std::list<Waiter> waiters;
};

AgentService::AgentService(asio::io_context& io, Assignee& agent, std::string key)
    : impl_(std::make_shared<Impl>(io, agent, std::move(key))) {}

AgentService::~AgentService() { impl_->waiters.clear(); }

void AgentService::published() { impl_->published(); }

void AgentService::handle(const HttpRequest& request, HttpServer::Respond respond) {
  const std::string path = request.target.substr(0, request.target.find('?'));
  if (path == "/healthz") return respond({.content_type = "text/plain", .body = "ok\n"});
  if (path == "/metrics") {
    return respond({.content_type = "text/plain; version=0.0.4",
                    .body = metrics_text(impl_->agent.state(),
                                         {.started = impl_->agent.ranks_started(), .failed = impl_->agent.ranks_failed()},
                                         impl_->agent.measured())});
  }
  if (path != "/v1/state" && path != "/v1/assignment") return respond(message(404, "there is nothing at " + path));

  const std::string nonce = header(request, contract::kNonceHeader), pod_uid = impl_->agent.state().podUid;
  const contract::SignedMessage asked{
      .method = request.method, .target = request.target, .pod_uid = pod_uid, .nonce = nonce, .body = request.body};
  if (nonce.empty() || !contract::verify(impl_->key, asked, header(request, contract::kSignatureHeader))) {
    return respond(message(401, "the request carries no signature of this job's key for this pod"));
  }
  const auto respond_signed = [key = impl_->key, method = request.method, target = request.target, pod_uid, nonce,
                               respond](HttpReply reply) {
    const contract::SignedMessage answered{.method = method,
                                           .target = target,
                                           .pod_uid = pod_uid,
                                           .nonce = nonce,
                                           .status = static_cast<std::int32_t>(reply.status),
                                           .body = reply.body};
    reply.headers[contract::kSignatureHeader] = contract::sign(key, answered);
    respond(std::move(reply));
  };
  impl_->agent.asked();
  if (path == "/v1/state" && request.method == "GET") return impl_->poll(request, respond_signed);
  if (path == "/v1/assignment" && request.method == "PUT") return respond_signed(impl_->put(request));
  respond_signed(message(405, path + " takes " + (path == "/v1/state" ? "GET" : "PUT") + ", not " + request.method));
}

std::string query_value(const std::string& target, const std::string& name) {
  std::size_t at = target.find('?');
  while (at != std::string::npos) {
    const std::size_t start = at + 1, end = target.find('&', start);
    const std::string pair = target.substr(start, end == std::string::npos ? end : end - start);
    if (pair.starts_with(name + "=")) return pair.substr(name.size() + 1);
    at = end;
  }
  return {};
}

}  // namespace trainyard::agent
