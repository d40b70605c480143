#pragma once
// A training in any layout, each rank a thread, and what it gave.

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/worker/mesh/ranks.h"
#include "tests/worker/trainer/small_job.h"
#include "worker/trainer/engine.h"

namespace trainyard::trainer {

/// What a training gave.
struct Trained {
  std::vector<double> losses;
  std::vector<double> norms;
  std::map<std::string, at::Tensor> first_gradients;  // whole tensors
  std::map<std::string, at::Tensor> weights;          // at the end
};

/// Adds this rank's box of each tensor to the whole ones.
inline void collect(const Engine& engine, const std::vector<at::Tensor>& parts, std::map<std::string, at::Tensor>& wholes) {
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& [global, box, master] = engine.parameters().all()[i];
    auto& whole = wholes.try_emplace(global.name, at::zeros(global.shape)).first->second;
    at::Tensor inside = whole;
    for (std::size_t dim = 0; dim < box.sizes.size(); ++dim) {
      inside = inside.narrow(static_cast<std::int64_t>(dim), box.offsets[dim], box.sizes[dim]);
    }
    inside.copy_(parts[i]);
  }
}

/// By `run`, which calls what it is given on each rank of the layout.
inline Trained train_by(const std::function<void(const contract::Layout&, const std::function<void(mesh::Mesh&)>&)>& run,
                        const contract::TrainingJobSpec& spec, const contract::Layout& layout) {
  at::set_num_threads(1);
  std::mutex mutex;
  Trained out;
  const auto train_on = [&](mesh::Mesh& mesh) {
    at::set_num_threads(1);
    Engine engine(spec, mesh, *spec.training.steps);
    engine.initialize();
    const bool reports = mesh.is_last_stage() && mesh.at().dp == 0 && mesh.at().tp == 0;
    for (std::int64_t step = 0; step < *spec.training.steps; ++step) {
      const auto metrics = engine.step(made_up_input(spec, mesh, step));
      const std::lock_guard lock(mutex);
      if (step == 0) collect(engine, engine.gradients(), out.first_gradients);
      if (!reports) continue;
      out.losses.push_back(metrics.loss);
      out.norms.push_back(metrics.gradient_norm);
    }
    std::vector<at::Tensor> masters;
    for (const auto& parameter : engine.parameters().all()) masters.push_back(parameter.master);
    const std::lock_guard lock(mutex);
    collect(engine, masters, out.weights);
  };
  run(layout, train_on);
  return out;
}

/// `over`: what each rank's mesh is wrapped in.
inline Trained train(contract::TrainingJobSpec spec, contract::Degrees degrees, mesh::LocalWorld::Manners manners = {},
                     const std::function<mesh::Mesh(mesh::Mesh&)>& over = {}) {
  const auto run = [&](const contract::Layout& layout, const std::function<void(mesh::Mesh&)>& train_on) {
    const auto wrapped = [&](mesh::Mesh& plain) {
      mesh::Mesh mesh = over(plain);
      train_on(mesh);
    };
    mesh::run_ranks(layout, over ? wrapped : train_on, manners);
  };
  const auto layout = layout_of(spec, degrees);
  return train_by(run, spec, layout);
}

inline void expect_equal_bits(const Trained& a, const Trained& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (const auto& [name, weight] : a.weights) EXPECT_TRUE(at::equal(weight, b.weights.at(name))) << name;
}

inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).to(at::kDouble).norm() / b.to(at::kDouble).norm()).item<double>();
}

inline void expect_near(const Trained& a, const Trained& b) {
  ASSERT_EQ(a.losses.size(), b.losses.size());
  EXPECT_NEAR(a.losses.front(), b.losses.front(), 1e-6 * b.losses.front());
  for (std::size_t i = 0; i < a.losses.size(); ++i) EXPECT_NEAR(a.losses[i], b.losses[i], 1e-5) << "step " << i + 1;
  EXPECT_NEAR(a.norms.front(), b.norms.front(), 1e-6 * b.norms.front());
  for (const auto& [name, gradient] : b.first_gradients) {
    EXPECT_LT(relative_difference(a.first_gradients.at(name), gradient), 1e-6) << name;
  }
}

/// Two layers and two micro-batches: for many steps.
inline contract::TrainingJobSpec longer_job(std::int64_t steps) {
  auto spec = small_job();
  spec.model.size->layers = 2;
  spec.training.globalBatchSize = 8;
  spec.parallelism.microBatchSize = 4;
  spec.training.steps = steps;
  return spec;
}

}  // namespace trainyard::trainer
