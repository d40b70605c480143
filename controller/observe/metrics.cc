#include "controller/observe/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

namespace trainyard::observe {
namespace {

const char* name_of(MetricType type) {
  switch (type) {
    case MetricType::kCounter: return "counter";
    case MetricType::kGauge: return "gauge";
    case MetricType::kHistogram: return "histogram";
  }
  return "untyped";
}

std::string text_of(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return {digits, end};
}

std::string escaped(const std::string& text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string text_of(const Labels& labels) {
  std::string out;
  for (const auto& [name, value] : labels) {
    out += out.empty() ? "{" : ",";
    out += name;
    out += "=\"" + escaped(value, true) + '"';
  }
  return out.empty() ? out : out + '}';
}

/// Both in the order of the alphabet.
bool are_named(const Labels& labels, const std::vector<std::string>& names) {
  return std::equal(labels.begin(), labels.end(), names.begin(), names.end(),
                    [](const auto& label, const std::string& name) { return label.first == name; });
}

void write_line(std::string& out, const std::string& name, const Labels& labels, const std::string& value) {
  out += name + text_of(labels) + ' ' + value + '\n';
}

}  // namespace

std::vector<double> time_buckets() { return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}; }

Metrics::Metrics(std::vector<MetricDefinition> definitions) {
  for (auto& definition : definitions) {
    if (!index_.emplace(definition.name, families_.size()).second)
      throw std::logic_error("metric " + definition.name + " is defined twice");
    families_.push_back({std::move(definition), {}});
    auto& added = families_.back().definition;
    std::sort(added.labels.begin(), added.labels.end());
    if (added.type == MetricType::kHistogram && !std::is_sorted(added.buckets.begin(), added.buckets.end())) {
      throw std::logic_error("the buckets of " + added.name + " do not grow");
    }
  }
}

Metrics::Family& Metrics::family(const std::string& name, MetricType type) {
  const auto at = index_.find(name);
  if (at == index_.end() || families_[at->second].definition.type != type) {
    throw std::logic_error("there is no " + std::string(name_of(type)) + " " + name);
  }
  return families_[at->second];
}

Metrics::Series& Metrics::series(Family& family, const Labels& labels) {
  if (!are_named(labels, family.definition.labels)) {
    throw std::logic_error("metric " + family.definition.name + " has other labels than" + text_of(labels));
  }
  return family.series[labels];
}

void Metrics::add(const std::string& counter, const Labels& labels, double amount) {
  const std::lock_guard lock(mutex_);
  series(family(counter, MetricType::kCounter), labels).value += amount;
}

void Metrics::set(const std::string& gauge, const Labels& labels, double value) {
  const std::lock_guard lock(mutex_);
  series(family(gauge, MetricType::kGauge), labels).value = value;
}

void Metrics::clear(const std::string& gauge) {
  const std::lock_guard lock(mutex_);
  family(gauge, MetricType::kGauge).series.clear();
}

void Metrics::observe(const std::string& histogram, const Labels& labels, double value) {
  const std::lock_guard lock(mutex_);
  Family& found = family(histogram, MetricType::kHistogram);
  const auto& bounds = found.definition.buckets;
  Series& at = series(found, labels);
  at.bucket_counts.resize(bounds.size() + 1);
  at.value += value;
  ++at.bucket_counts[static_cast<std::size_t>(std::lower_bound(bounds.begin(), bounds.end(), value) - bounds.begin())];
}

void Metrics::keep(const std::string& histogram, const std::string& label, const std::set<std::string>& values) {
  const std::lock_guard lock(mutex_);
  std::erase_if(family(histogram, MetricType::kHistogram).series, [&](const auto& item) {
    const auto found = item.first.find(label);
    return found == item.first.end() || !values.contains(found->second);
  });
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [definition, all_series] : families_) {
    if (all_series.empty()) continue;
    const std::string& name = definition.name;
    out += "# HELP " + name + ' ' + escaped(definition.help, false) + "\n# TYPE " + name + ' ' + name_of(definition.type) + '\n';
    for (const auto& [labels, at] : all_series) {
      if (definition.type != MetricType::kHistogram) {
        write_line(out, name, labels, text_of(at.value));
        continue;
      }
      std::uint64_t count = 0;
      for (std::size_t i = 0; i < at.bucket_counts.size(); ++i) {
        count += at.bucket_counts[i];
        Labels with_bound = labels;
        with_bound["le"] = i < definition.buckets.size() ? text_of(definition.buckets[i]) : "+Inf";
        write_line(out, name + "_bucket", with_bound, std::to_string(count));
      }
      write_line(out, name + "_sum", labels, text_of(at.value));
      write_line(out, name + "_count", labels, std::to_string(count));
    }
  }
  return out;
}

}  // namespace trainyard::observe
