#include "controller/observe/metrics.h"

#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

namespace trainyard::observe {
namespace {

Metrics some_metrics() {
  return Metrics({{"requests_total", MetricType::kCounter, "Requests made.", {}},
                  {"jobs", MetricType::kGauge, "Jobs by phase.", {}},
                  {"request_seconds", MetricType::kHistogram, "How long they took.", {0.1, 1}}});
}

TEST(Metrics, AreWrittenAsPrometheusReadsThem) {
  Metrics metrics = some_metrics();
  metrics.add("requests_total", {{"code", "200"}, {"method", "GET"}});
  metrics.add("requests_total", {{"code", "200"}, {"method", "GET"}}, 2);
  metrics.set("jobs", {}, 1.5);
  for (const double seconds : {0.1, 0.5, 7.0}) metrics.observe("request_seconds", {{"method", "GET"}}, seconds);
  EXPECT_EQ(metrics.text(), R"(# HELP requests_total Requests made.
# TYPE requests_total counter
requests_total{code="200",method="GET"} 3
# HELP jobs Jobs by phase.
# TYPE jobs gauge
jobs 1.5
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
  metrics.set("jobs", {{"name", "a\"b\\c\nd"}}, 1);
  EXPECT_NE(metrics.text().find(R"(jobs{name="a\"b\\c\nd"} 1)"), std::string::npos) << metrics.text();
}

TEST(Metrics, AGaugeThatIsSetAnewForgetsWhatIsGone) {
  Metrics metrics = some_metrics();
  metrics.set("jobs", {{"phase", "Running"}}, 3);
  metrics.clear("jobs");
  metrics.set("jobs", {{"phase", "Pending"}}, 1);
  EXPECT_EQ(metrics.text().find("Running"), std::string::npos);
}

TEST(Metrics, ANameThatIsNotDefinedIsABug) {
  Metrics metrics = some_metrics();
  EXPECT_THROW(metrics.add("nothing_total"), std::logic_error);
  EXPECT_THROW(metrics.set("requests_total", {}, 1), std::logic_error) << "a counter is not set";
  EXPECT_THROW(Metrics({{"twice"}, {"twice"}}), std::logic_error);
  EXPECT_THROW(Metrics({{"h", MetricType::kHistogram, "", {2, 1}}}), std::logic_error);
}

TEST(Metrics, CountFromManyThreads) {
  Metrics metrics = some_metrics();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 1000; ++n) metrics.add("requests_total");
      });
    }
  }
  EXPECT_NE(metrics.text().find("requests_total 4000"), std::string::npos);
}

}  // namespace
}  // namespace trainyard::observe
