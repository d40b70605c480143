#pragma once
// Numbers for Prometheus. All metrics of a program stand in one list, which is their documentation too; code names the metric
// and its labels where something happens.
// Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace trainyard::observe {

enum class MetricType { kCounter, kGauge, kHistogram };

struct MetricDefinition {
  std::string name;  // trainyard_…; counters end with _total, times with _seconds
  MetricType type = MetricType::kGauge;
  std::string help;
  std::vector<std::string> labels;  // by which its series are told apart
  std::vector<double> buckets;      // a histogram's upper bounds, growing; each series of it has the label le besides
};

/// From 1 ms to 30 s: requests, reconciliations.
std::vector<double> time_buckets();

using Labels = std::map<std::string, std::string>;

/// Any thread. A name that is not defined, or of another type, or with other labels, is a bug: std::logic_error.
class Metrics {
 public:
  explicit Metrics(std::vector<MetricDefinition> definitions);

  void add(const std::string& counter, const Labels& labels = {}, double amount = 1);
  void set(const std::string& gauge, const Labels& labels, double value);
  /// Forgets all of a gauge's series: for gauges that are set anew as a whole, such as jobs by phase.
  void clear(const std::string& gauge);
  void observe(const std::string& histogram, const Labels& labels, double value);
  /// Forgets the histogram's series but for those whose label has one of these values, which else grow in number with all that ever was.
  void keep(const std::string& histogram, const std::string& label, const std::set<std::string>& values);
  /// The exposition, families in the order of their definitions.
  std::string text() const;

 private:
  struct Series {
    double value = 0;                          // a counter or gauge; a histogram's sum
    std::vector<std::uint64_t> bucket_counts;  // each bucket alone; the last is +Inf
  };
  struct Family {
    MetricDefinition definition;
    std::map<Labels, Series> series;
  };
  Family& family(const std::string& name, MetricType type);
  Series& series(Family& family, const Labels& labels);

  mutable std::mutex mutex_;
  std::vector<Family> families_;
  std::map<std::string, std::size_t> index_;
};

}  // namespace trainyard::observe
