#include "controller/observe/tracing_settings.h"

#include <map>

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace trainyard::observe {
namespace {

using Variables = std::map<std::string, std::string>;

struct Reading {
  std::vector<std::string> problems;
  std::optional<TracingSettings> settings;
};

Reading read(const Variables& variables) {
  const auto environment = [&variables](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
  Reading out;
  out.settings = read_tracing_settings(environment, {{"service.name", std::string("me")}}, out.problems);
  return out;
}

std::string attribute(const TracingSettings& settings, const std::string& key) {
  for (const auto& item : settings.resource) {
    if (item.key == key) return std::get<std::string>(item.value);
  }
  return "none";
}

TEST(TracingSettings, AreThereOnceAnEndpointIs) {
  EXPECT_FALSE(read({}).settings);
  EXPECT_FALSE(read({{"OTEL_EXPORTER_OTLP_ENDPOINT", " "}}).settings) << "empty counts as left out";
  const Variables given{{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"}};
  const Reading reading = read(given);
  ASSERT_TRUE(reading.settings);
  EXPECT_EQ(reading.settings->host, "collector");
  EXPECT_EQ(reading.settings->port, "4318");
  EXPECT_EQ(reading.settings->target, "/v1/traces");
  EXPECT_EQ(reading.settings->url, "http://collector:4318/v1/traces");
  EXPECT_FALSE(reading.settings->tls);
  EXPECT_EQ(reading.settings->timeout, std::chrono::seconds(10));
  for (const auto& [name, value] : Variables{{"OTEL_SDK_DISABLED", "True"}, {"OTEL_TRACES_EXPORTER", "none"}}) {
    Variables off = given;
    off[name] = value;
    EXPECT_FALSE(read(off).settings) << name;
  }
}

TEST(TracingSettings, TakeARootOfAllSignalsOrTheVeryPlaceOfTraces) {
  const auto url = [](const std::string& name, const std::string& endpoint) {
    const Reading reading = read({{name, endpoint}});
    EXPECT_TRUE(reading.problems.empty()) << endpoint << ": " << reading.problems.front();
    return reading.settings->url + " " + reading.settings->host + " " + reading.settings->port;
  };
  const std::string all = "OTEL_EXPORTER_OTLP_ENDPOINT", traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
  EXPECT_EQ(url(all, "https://a.b/c/"), "https://a.b/c/v1/traces a.b 443");
  EXPECT_EQ(url(all, "HTTP://[::1]:4318/"), "http://[::1]:4318/v1/traces ::1 4318");
  EXPECT_EQ(url(traces, "http://a/custom"), "http://a/custom a 80");
  EXPECT_EQ(url(traces, "http://a"), "http://a/ a 80");
  EXPECT_EQ(read({{all, "http://a"}, {traces, "http://b/x"}}).settings->host, "b") << "the special one goes first";
}

TEST(TracingSettings, DecodeHeadersAndAttributes) {
  const Reading reading = read({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://a"},
                                {"OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x%3D, X-Tenant = b ,"},
                                {"OTEL_RESOURCE_ATTRIBUTES", "service.name=ignored,team=a%2Cb"},
                                {"OTEL_SERVICE_NAME", "trains"},
                                {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"}});
  EXPECT_TRUE(reading.problems.empty());
  using Headers = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(reading.settings->headers, (Headers{{"Authorization", "Bearer x="}, {"X-Tenant", "b"}}));
  EXPECT_EQ(attribute(*reading.settings, "service.name"), "trains") << "OTEL_SERVICE_NAME goes first";
  EXPECT_EQ(attribute(*reading.settings, "team"), "a,b");
  EXPECT_EQ(reading.settings->timeout, std::chrono::milliseconds(250));
}

TEST(TracingSettings, NameAllThatCannotBeUsedAtOnceAndNoSecrets) {
  testing::TemporaryFolder folder;
  const Reading reading = read({{"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"},
                                {"OTEL_EXPORTER_OTLP_HEADERS", "secret,Authorization: Bearer secret=,Host=d,e=%zz,f=%0d%0ag"},
                                {"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"},
                                {"OTEL_EXPORTER_OTLP_CERTIFICATE", folder.write("ca", "no certificate").string()},
                                {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
                                {"OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"},
                                {"OTEL_RESOURCE_ATTRIBUTES", "=x"},
                                {"OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"},
                                {"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/certificate"},
                                {"OTEL_TRACES_SAMPLER", "always_off"},
                                {"OTEL_TRACES_EXPORTER", "zipkin"}});
  std::string all;
  for (const auto& problem : reading.problems) all += problem + "\n";
  EXPECT_EQ(reading.problems.size(), 15u) << all;
  for (const char* part :
       {"OTEL_EXPORTER_OTLP_ENDPOINT: `collector:4317` is no URL of http or https", "_HEADERS: entry 1", "_HEADERS: entry 4",
        "a name in it is no name of a header", "`Host` is a header that the controller sets itself",
        "the value of `f` has control characters", "_TIMEOUT: `10s`", "_CERTIFICATE: ", "_PROTOCOL: `grpc`",
        "_COMPRESSION: `gzip`", "OTEL_RESOURCE_ATTRIBUTES: entry 1", "OTEL_TRACES_EXPORTER: `zipkin`",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY: ", "_TRACES_CLIENT_CERTIFICATE: ", "OTEL_TRACES_SAMPLER: `always_off`"}) {
    EXPECT_NE(all.find(part), std::string::npos) << part << " is not in\n" << all;
  }
  EXPECT_EQ(all.find("secret"), std::string::npos) << all;
}

TEST(TracingSettings, RefuseEndpointsThatLeadNowhere) {
  for (const char* endpoint : {"ftp://a", "http://", "http://:4318", "http://a:0", "http://a:65536", "http://a:b", "http://a?b",
                               "http://a#b", "http://[::1", "http://a b", "http://a\tb", "http:/a"}) {
    EXPECT_EQ(read({{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint}}).problems.size(), 1u) << endpoint;
  }
  for (const char* endpoint : {"https://me:secret@a", "me:secret@a", "grpc://me:secret@a"}) {
    const Reading with_user = read({{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint}});
    ASSERT_EQ(with_user.problems.size(), 1u);
    EXPECT_EQ(with_user.problems[0].find("secret"), std::string::npos) << with_user.problems[0];
  }
}

TEST(TracingSettings, TellBracketsControlCharactersAndSpacesApart) {
  const auto problem = [](const std::string& endpoint) {
    const auto problems = read({{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint}}).problems;
    return problems.size() == 1 ? problems.front() : std::to_string(problems.size()) + " problems";
  };
  for (const char* endpoint :
       {"http://[::1", "http://::1]", "http://[::1:4318/v1", "http://[[::1]]:4318", "http://a[::1]:4318"}) {
    EXPECT_EQ(problem(endpoint), "OTEL_EXPORTER_OTLP_ENDPOINT: `" + std::string(endpoint) +
                                     "` has brackets that are not a pair around an address of IPv6; write http://HOST:PORT or "
                                     "https://HOST:PORT");
  }
  EXPECT_NE(problem("http://[::1]:b").find("has no port"), std::string::npos) << problem("http://[::1]:b");
  for (const char* endpoint : {"http://a\nb", "http://a\x7f", "ht\x1btp://a", "\x1b[2Ja"}) {
    EXPECT_EQ(problem(endpoint),
              "OTEL_EXPORTER_OTLP_ENDPOINT: has control characters; write http://HOST:PORT or https://HOST:PORT");
  }
  EXPECT_NE(problem("http://a b").find("has spaces"), std::string::npos);
  EXPECT_NE(problem("http://a\tb").find("has spaces"), std::string::npos);
}

TEST(TracingSettings, RepeatNoQueryOfAnEndpointSinceItMayHoldAKey) {
  for (const char* endpoint :
       {"https://a/?api-key=secret", "https://a:b/?api-key=secret", "https://a#secret", "a?secret", "https://?secret"}) {
    const Reading with_query = read({{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint}});
    ASSERT_EQ(with_query.problems.size(), 1u) << endpoint;
    EXPECT_EQ(with_query.problems[0].find("secret"), std::string::npos) << with_query.problems[0];
    EXPECT_NE(with_query.problems[0].find("OTEL_EXPORTER_OTLP_HEADERS"), std::string::npos) << with_query.problems[0];
  }
}

TEST(TracingSettings, RefuseAFileOfAuthoritiesThatCannotBeRead) {
  const Reading reading =
      read({{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://a"}, {"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.crt"}});
  ASSERT_EQ(reading.problems.size(), 1u);
  EXPECT_NE(reading.problems[0].find("cannot read the file /nowhere/ca.crt"), std::string::npos);
}

}  // namespace
}  // namespace trainyard::observe
