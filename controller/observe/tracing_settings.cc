#include "controller/observe/tracing_settings.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string_view>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>

#include "crds/contract/host_port.h"

namespace trainyard::observe {
namespace {

constexpr std::string_view kTokenMarks = "!#$%&'*+-.^_`|~";  // besides letters and digits: RFC 9110, section 5.6.2

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

std::string trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t"), end = text.find_last_not_of(" \t");
  return begin == std::string_view::npos ? "" : std::string(text.substr(begin, end - begin + 1));
}

template <class Number>
std::optional<Number> number(std::string_view text, int base = 10) {
  Number out{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return out;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const auto digits = text.substr(i + 1, 2);
    const auto byte = digits.size() == 2 && digits[0] != '-' ? number<int>(digits, 16) : std::nullopt;
    if (!byte) return std::nullopt;
    out += static_cast<char>(*byte);
    i += 2;
  }
  return out;
}

bool is_token(std::string_view text) {
  const auto is_in = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kTokenMarks.find(c) != std::string_view::npos;
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), is_in);
}

bool has_controls(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c < 32 && c != '\t') || c == 127; });
}

/// Of HOST:PORT: none, or one pair around the host.
bool has_brackets_in_place(std::string_view text) {
  const auto open = std::count(text.begin(), text.end(), '['), closed = std::count(text.begin(), text.end(), ']');
  const bool are_around_the_host = open == 1 && text.starts_with('[') && text.find(']') != std::string_view::npos;
  return open == closed && (open == 0 || are_around_the_host);
}

class Reading {
 public:
  Reading(const Environment& environment, std::vector<std::string>& problems) : environment_(environment), problems_(problems) {}

  /// A variable that is empty counts as one that is not there.
  std::optional<std::string> get(const std::string& name) {
    auto value = environment_(name);
    if (value) *value = trimmed(*value);
    if (value && value->empty()) return std::nullopt;
    return value;
  }
  struct Found {
    std::string name, value;
  };
  /// OTEL_EXPORTER_OTLP_TRACES_<what>, or else OTEL_EXPORTER_OTLP_<what>.
  std::optional<Found> of_exporter(const std::string& what) {
    for (const std::string prefix : {"OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"}) {
      if (auto value = get(prefix + what)) return Found{.name = prefix + what, .value = std::move(*value)};
    }
    return std::nullopt;
  }
  void complain(const std::string& name, const std::string& what) { problems_.push_back(name + ": " + what); }

  /// NAME=VALUE,…, values percent-encoded. Values are not repeated in messages: they may be secrets.
  std::vector<std::pair<std::string, std::string>> pairs(const Found& from) {
    std::vector<std::pair<std::string, std::string>> out;
    std::string_view rest = from.value;
    for (int i = 1; !rest.empty(); ++i) {
      const auto comma = rest.find(',');
      const std::string item = trimmed(rest.substr(0, comma));
      rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
      if (item.empty()) continue;
      const auto equals = item.find('=');
      const auto key = trimmed(item.substr(0, equals));
      const auto value =
          equals == std::string::npos ? std::nullopt : percent_decoded(trimmed(std::string_view(item).substr(equals + 1)));
      if (key.empty() || !value) {
        complain(from.name, "entry " + std::to_string(i) + " is not NAME=VALUE with the value percent-encoded");
      } else {
        out.emplace_back(key, *value);
      }
    }
    return out;
  }

 private:
  const Environment& environment_;
  std::vector<std::string>& problems_;
};

/// Whether anything is to be sent at all.
bool is_wanted(Reading& reading) {
  if (lower(reading.get("OTEL_SDK_DISABLED").value_or("")) == "true") return false;
  const auto exporter = reading.get("OTEL_TRACES_EXPORTER");
  if (exporter == "none") return false;
  if (exporter && *exporter != "otlp") {
    reading.complain("OTEL_TRACES_EXPORTER", "`" + *exporter + "` is not otlp or none, the two that there are");
  }
  return true;
}

void read_endpoint(Reading& reading, const Reading::Found& from, TracingSettings& settings) {
  constexpr const char* kWrite = "; write http://HOST:PORT or https://HOST:PORT";
  const auto bad = [&](const std::string& what) { reading.complain(from.name, "`" + from.value + "` " + what + kWrite); };
  // Not shown: what stands before the one and after the others may be a secret.
  if (from.value.find('@') != std::string::npos) {
    return reading.complain(from.name, "has a user in it; credentials go into OTEL_EXPORTER_OTLP_HEADERS");
  }
  if (from.value.find_first_of("?#") != std::string::npos) {
    return reading.complain(from.name,
                            std::string("has a query or a fragment; credentials go into OTEL_EXPORTER_OTLP_HEADERS") + kWrite);
  }
  // Not shown either: they would do to a terminal what they say.
  if (has_controls(from.value)) return reading.complain(from.name, std::string("has control characters") + kWrite);
  const auto scheme_end = from.value.find("://");
  const std::string scheme = lower(from.value.substr(0, scheme_end == std::string::npos ? 0 : scheme_end));
  if (scheme != "http" && scheme != "https") return bad("is no URL of http or https");
  settings.tls = scheme == "https";
  const std::string rest = from.value.substr(scheme_end + 3);
  if (rest.find_first_of(" \t") != std::string::npos) return bad("has spaces");
  const auto slash = rest.find('/');
  const std::string authority = rest.substr(0, slash);
  std::string path = slash == std::string::npos ? "" : rest.substr(slash);
  settings.url = scheme + "://" + authority;
  const auto at = contract::read_host_port(authority);
  if (!at && !has_brackets_in_place(authority)) return bad("has brackets that are not a pair around an address of IPv6");
  if (!at || at->port == 0) return bad("has no port from 1 to 65535");
  if (at->host.empty()) return bad("names no host");
  constexpr std::uint16_t kHttps = 443, kHttp = 80;
  settings.port = std::to_string(at->port.value_or(settings.tls ? kHttps : kHttp));
  settings.host = at->host;
  // The variable for all signals names their common root, the one for traces the very place.
  const bool is_root = from.name == "OTEL_EXPORTER_OTLP_ENDPOINT";
  while (is_root && path.ends_with('/')) path.pop_back();
  settings.target = is_root ? path + "/v1/traces" : path.empty() ? "/" : path;
  settings.url += settings.target;
}

void read_headers(Reading& reading, TracingSettings& settings) {
  const auto from = reading.of_exporter("HEADERS");
  if (!from) return;
  settings.headers = reading.pairs(*from);
  for (const auto& [name, value] : settings.headers) {
    static constexpr std::string_view kOwn[] = {"host", "content-type", "content-length", "content-encoding", "connection"};
    if (!is_token(name)) {  // not shown: of `Authorization: Bearer TOKEN=` all but the last sign is the name
      reading.complain(from->name, "a name in it is no name of a header of HTTP; write NAME=VALUE");
    } else if (has_controls(value)) {
      reading.complain(from->name, "the value of `" + name + "` has control characters");
    } else if (std::find(std::begin(kOwn), std::end(kOwn), lower(name)) != std::end(kOwn)) {
      reading.complain(from->name, "`" + name + "` is a header that the controller sets itself");
    }
  }
}

void read_timeout(Reading& reading, TracingSettings& settings) {
  const auto from = reading.of_exporter("TIMEOUT");
  if (!from) return;
  const auto milliseconds = number<int>(from->value);
  if (!milliseconds || *milliseconds < 1) {
    return reading.complain(from->name, "`" + from->value + "` is no number of milliseconds, as 10000");
  }
  settings.timeout = std::chrono::milliseconds(*milliseconds);
}

void read_authorities(Reading& reading, TracingSettings& settings) {
  const auto from = reading.of_exporter("CERTIFICATE");
  if (!from) return;
  std::ifstream file(from->value, std::ios::binary);
  settings.authorities.assign(std::istreambuf_iterator<char>(file), {});
  if (!file.is_open()) return reading.complain(from->name, "cannot read the file " + from->value);
  boost::system::error_code error;
  boost::asio::ssl::context trial(boost::asio::ssl::context::tls_client);
  trial.add_certificate_authority(boost::asio::buffer(settings.authorities), error);
  if (error || settings.authorities.find("-----BEGIN CERTIFICATE-----") == std::string::npos) {
    reading.complain(from->name, "the file " + from->value + " holds no certificates in PEM that can be used");
  }
}

/// What is not spoken here.
void check_protocol(Reading& reading) {
  for (const char* what : {"CLIENT_KEY", "CLIENT_CERTIFICATE"}) {
    if (const auto of_client = reading.of_exporter(what)) {
      reading.complain(of_client->name, "there are no client certificates; a collector may ask for OTEL_EXPORTER_OTLP_HEADERS");
    }
  }
  if (const auto sampler = reading.get("OTEL_TRACES_SAMPLER"); sampler && *sampler != "parentbased_always_on") {
    reading.complain("OTEL_TRACES_SAMPLER", "`" + *sampler + "` is not parentbased_always_on, the one that there is");
  }
  if (const auto protocol = reading.of_exporter("PROTOCOL"); protocol && protocol->value != "http/json") {
    reading.complain(protocol->name, "`" + protocol->value +
                                         "` is not http/json, the one that there is; collectors take it at their "
                                         "port for OTLP over HTTP, 4318");
  }
  if (const auto compression = reading.of_exporter("COMPRESSION"); compression && compression->value != "none") {
    reading.complain(compression->name, "`" + compression->value + "` is not none, the one that there is");
  }
}

void put(Attributes& attributes, const std::string& key, const std::string& value) {
  const auto found = std::find_if(attributes.begin(), attributes.end(), [&key](const auto& item) { return item.key == key; });
  if (found != attributes.end()) {
    found->value = value;
  } else {
    attributes.push_back({key, value});
  }
}

void read_resource(Reading& reading, TracingSettings& settings) {
  if (const auto value = reading.get("OTEL_RESOURCE_ATTRIBUTES")) {
    for (const auto& [key, text] : reading.pairs({"OTEL_RESOURCE_ATTRIBUTES", *value})) put(settings.resource, key, text);
  }
  if (const auto name = reading.get("OTEL_SERVICE_NAME")) put(settings.resource, "service.name", *name);
}

}  // namespace

std::optional<TracingSettings> read_tracing_settings(const Environment& environment, Attributes own,
                                                     std::vector<std::string>& problems) {
  Reading reading(environment, problems);
  if (!is_wanted(reading)) return std::nullopt;
  const auto endpoint = reading.of_exporter("ENDPOINT");
  if (!endpoint) return std::nullopt;
  TracingSettings settings{.resource = std::move(own)};
  read_endpoint(reading, *endpoint, settings);
  read_headers(reading, settings);
  read_timeout(reading, settings);
  read_authorities(reading, settings);
  check_protocol(reading);
  read_resource(reading, settings);
  return settings;
}

}  // namespace trainyard::observe
