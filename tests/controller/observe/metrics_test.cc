#include "controller/observe/metrics.h"

#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

namespace trainyard::observe {
namespace {

Metrics some_metrics() {
  return Metrics({{"requests_total", MetricType::kCounter, "Requests made.", {"method", "code"}},
                  {"nodes", MetricType::kGauge, "Nodes there are."},
                  {"jobs", MetricType::kGauge, "Jobs by phase.", {"phase"}},
                  {"request_seconds", MetricType::kHistogram, "How long they took.", {"method"}, {0.1, 1}}});
}

TEST(Metrics, AreWrittenAsPrometheusReadsThem) {
  Metrics metrics = some_metrics();
  metrics.add("requests_total", {{"code", "200"}, {"method", "GET"}});
  metrics.add("requests_total", {{"code", "200"}, {"method", "GET"}}, 2);
  metrics.set("nodes", {}, 1.5);
  for (const double seconds : {0.1, 0.5, 7.0}) metrics.observe("request_seconds", {{"method", "GET"}}, seconds);
  EXPECT_EQ(metrics.text(), R"(# HELP requests_total Requests made.
# TYPE requests_total counter
requests_total{code="200",method="GET"} 3
# HELP nodes Nodes there are.
# TYPE nodes gauge
nodes 1.5
# HELP request_seconds How long they took.
# TYPE request_seconds histogram
request_seconds_bucket{le="0.1",method="GET"} 1
request_seconds_bucket{le="1",method="GET"} 2
request_seconds_bucket{le="+Inf",method="GET"} 3
request_seconds_sum{method="GET"} 7.6
request_seconds_count{method="GET"} 3
)");
}

TEST(Metrics, EscapeLabels) {
  Metrics metrics = some_metrics();
  metrics.set("jobs", {{"phase", "a\"b\\c\nd"}}, 1);
  EXPECT_NE(metrics.text().find(R"(jobs{phase="a\"b\\c\nd"} 1)"), std::string::npos) << metrics.text();
}

TEST(Metrics, AGaugeThatIsSetAnewForgetsWhatIsGone) {
  Metrics metrics = some_metrics();
  metrics.set("jobs", {{"phase", "Running"}}, 3);
  metrics.clear("jobs");
  metrics.set("jobs", {{"phase", "Pending"}}, 1);
  EXPECT_EQ(metrics.text().find("Running"), std::string::npos);
}

TEST(Metrics, AHistogramKeepsTheSeriesThatItIsTold) {
  Metrics metrics = some_metrics();
  for (const char* method : {"GET", "PUT", "DELETE"}) metrics.observe("request_seconds", {{"method", method}}, 0.5);
  metrics.keep("request_seconds", "method", {"GET", "PUT"});
  EXPECT_NE(metrics.text().find("request_seconds_count{method=\"GET\"} 1"), std::string::npos);
  EXPECT_NE(metrics.text().find("request_seconds_count{method=\"PUT\"} 1"), std::string::npos);
  EXPECT_EQ(metrics.text().find("DELETE"), std::string::npos);
  EXPECT_THROW(metrics.keep("jobs", "phase", {}), std::logic_error) << "a gauge is set anew";
}

TEST(Metrics, ANameThatIsNotDefinedIsABug) {
  Metrics metrics = some_metrics();
  EXPECT_THROW(metrics.add("nothing_total"), std::logic_error);
  EXPECT_THROW(metrics.set("requests_total", {}, 1), std::logic_error) << "a counter is not set";
  EXPECT_THROW(Metrics({{"twice"}, {"twice"}}), std::logic_error);
  EXPECT_THROW(Metrics({{"h", MetricType::kHistogram, "", {}, {2, 1}}}), std::logic_error);
}

TEST(Metrics, LabelsThatAreNotDefinedAreABug) {
  Metrics metrics = some_metrics();
  EXPECT_NO_THROW(metrics.add("requests_total", {{"method", "GET"}, {"code", "200"}}));
  EXPECT_THROW(metrics.add("requests_total", {{"method", "GET"}}), std::logic_error);
  EXPECT_THROW(metrics.set("jobs", {{"state", "Running"}}, 1), std::logic_error);
  EXPECT_THROW(metrics.set("nodes", {{"name", "a"}}, 1), std::logic_error);
  EXPECT_THROW(metrics.observe("request_seconds", {}, 1), std::logic_error);
}

TEST(Metrics, CountFromManyThreads) {
  Metrics metrics = some_metrics();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 1000; ++n) metrics.add("requests_total", {{"code", "200"}, {"method", "GET"}});
      });
    }
  }
  EXPECT_NE(metrics.text().find(R"(requests_total{code="200",method="GET"} 4000)"), std::string::npos);
}

}  // namespace
}  // namespace trainyard::observe
