#include "controller/decide/packed_job.h"

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include <gtest/gtest.h>

#include "controller/decide/cluster.h"
#include "controller/decide/packed.h"
#include "tests/support/builders.h"

namespace trainyard::decide {
namespace {

/// Gives every field, at every depth, a value of its own that is not its default.
class Filler {
 public:
  template <class T>
  void fill(T& out) {
    ++number_;
    if constexpr (contract::Described<T>) {
      T::describe(out, [this](const char*, auto& field) { fill(field); });
    } else if constexpr (contract::Optional<T>) {
      fill(out.emplace());
    } else if constexpr (contract::Vector<T>) {
      out.resize(2);
      for (auto& item : out) fill(item);
    } else if constexpr (contract::StringMap<T>) {
      for (const char* key : {"one", "another"}) fill(out[key]);
    } else if constexpr (std::is_same_v<T, std::string>) {
      out = "text " + std::to_string(number_);
    } else if constexpr (std::is_same_v<T, contract::Quantity>) {
      fill(out.text);
    } else if constexpr (std::is_same_v<T, Json>) {
      out = {{"spec", {{"list", {1, -2, 0.5, "\xc3\xa9", nullptr, true}}, {"number", number_}}}};
    } else if constexpr (std::is_same_v<T, bool>) {
      out = !out;
    } else if constexpr (std::is_enum_v<T>) {
      const bool has_others = enum_names(T{}).size() > 1;
      out = has_others && out == T{0} ? T{1} : T{0};
    } else {
      out = static_cast<T>(number_ * (number_ % 2 == 0 ? -1 : 1)) + T{1'000'000};
    }
  }

 private:
  int number_ = 0;
};

Job full_job() {
  Job job = test::make_job("full");
  Filler filler;
  filler.fill(job.spec);
  filler.fill(job.status);
  job.uid = "8c3f2a10-0000-4000-8000-100000000000";
  job.resource_version = "123456";
  job.generation = 7;
  job.created = test::at(1.5);
  job.deleting = true;
  job.traceparent = "00-1-2-01";
  job.problems = {{"spec.workers.count", "is no number"}, {"spec", "is odd"}};
  job.status_written = test::at(12);
  job.spec_hash = "hash";
  job.template_digest.text = "digest";
  return job;
}

void expect_same_once_unpacked(const Job& job) {
  const Job read = unpack(job.key, pack(job));
  EXPECT_EQ(read, job);
  EXPECT_EQ(contract::encode(read.spec), contract::encode(job.spec));
  EXPECT_EQ(contract::encode(read.status), contract::encode(job.status));
  EXPECT_EQ(read.template_digest.text, job.template_digest.text);
}

TEST(APackedJob, IsAsItWasInEveryField) {
  expect_same_once_unpacked(full_job());
  expect_same_once_unpacked(test::make_job("plain", 4, 8));
  expect_same_once_unpacked(Job{.key = {"default", "empty"}});
}

TEST(APackedJob, IsAsItWasWithNumbersAtTheirEnds) {
  Job job = test::make_job("a");
  job.generation = std::numeric_limits<std::int64_t>::min();
  job.spec.workers.count = std::numeric_limits<std::int32_t>::min();
  job.spec.workers.spares = std::numeric_limits<std::int32_t>::max();
  job.spec.lifecycle.startTimeoutSeconds = std::numeric_limits<std::int64_t>::max();
  job.spec.training.optimizer.learningRate = std::numeric_limits<double>::denorm_min();
  job.spec.training.optimizer.weightDecay = -std::numeric_limits<double>::infinity();
  job.status.generation = -1;
  job.created = Time::max();
  expect_same_once_unpacked(job);
}

TEST(APackedJob, HasWhatIsAskedOfAllJobsBesideIt) {
  Job job = full_job();
  job.status.phase = contract::Phase::kSucceeded;
  const PackedJob packed = pack(job);
  EXPECT_EQ(packed.uid, job.uid);
  EXPECT_EQ(packed.resource_version, "123456");
  EXPECT_EQ(packed.phase, contract::Phase::kSucceeded);
  EXPECT_EQ(packed.gpu_resource, job.spec.workers.gpuResourceName);
  EXPECT_EQ(packed.start_delay, job.status.queue->startDelaySeconds);
  job.spec.workers.gpusPerWorker = 0;
  job.status.queue.reset();
  EXPECT_EQ(pack(job).gpu_resource, "");
  EXPECT_EQ(pack(job).start_delay, std::nullopt);
}

TEST(APackedJob, TakesNothingForWhatHasItsDefault) {
  const auto size = [](const Job& job) { return pack(job).bytes.size(); };
  Job job = test::make_job("a");
  const auto before = size(job);
  EXPECT_LT(before, 200u);
  job.spec.lifecycle.maxRestarts = 3;
  EXPECT_EQ(size(job), before + 4) << "the field's number, its own field's number and value, and the end of the lifecycle";
}

}  // namespace
}  // namespace trainyard::decide
