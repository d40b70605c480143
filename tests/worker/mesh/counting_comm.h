#pragma once
// A Comm that counts its rank's calls, and the bytes which it sends, as rings would: what worker/plan/traffic.h foretells.

#include <cstdint>
#include <memory>
#include <utility>

#include "worker/mesh/mesh.h"

namespace trainyard::mesh {

struct Count {
  std::int64_t bytes = 0;
  std::int64_t calls = 0;  // collectives and sends; the other end of a send is not counted
  void add(std::int64_t sent) {
    bytes += sent;
    ++calls;
  }
  bool operator==(const Count&) const = default;
};

class CountingComm : public Comm {
 public:
  /// `sent` is added to, by the rank's own thread; both must outlive this object.
  CountingComm(Comm& inner, Count& sent) : inner_(inner), sent_(sent) {}
  std::int32_t rank() const override { return inner_.rank(); }
  std::int32_t size() const override { return inner_.size(); }
  void all_reduce(at::Tensor& tensor, ReduceOp op) override {
    add_ring(tensor);
    inner_.all_reduce(tensor, op);
  }
  void all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) override {
    sent_.add((size() - 1) * bytes(in));
    inner_.all_gather(out, in);
  }
  void broadcast(at::Tensor& tensor, std::int32_t root) override {
    sent_.add(rank() != root ? bytes(tensor) : 0);
    inner_.broadcast(tensor, root);
  }
  void send(const at::Tensor& tensor, std::int32_t to, std::int32_t tag) override {
    sent_.add(bytes(tensor));
    inner_.send(tensor, to, tag);
  }
  void receive(at::Tensor& tensor, std::int32_t from, std::int32_t tag) override { inner_.receive(tensor, from, tag); }
  void barrier() override {
    sent_.add(0);
    inner_.barrier();
  }
  std::unique_ptr<Pending> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    add_ring(tensor);
    return inner_.start_all_reduce(tensor, op);
  }
  std::unique_ptr<Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) override {
    sent_.add((size() - 1) * bytes(part));
    return inner_.start_all_gather(whole, part);
  }
  std::unique_ptr<Pending> start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) override {
    sent_.add((size() - 1) * bytes(part));
    return inner_.start_reduce_scatter(part, whole);
  }
  std::unique_ptr<Pending> start_all_to_all(at::Tensor& out, const at::Tensor& whole) override {
    sent_.add(bytes(whole) / size() * (size() - 1));
    return inner_.start_all_to_all(out, whole);
  }

 private:
  /// Of a ring's 2(n - 1)/n parts; what does not divide by n is on this rank where it comes last.
  void add_ring(const at::Tensor& tensor) {
    const std::int64_t all = 2 * (size() - 1) * bytes(tensor);
    sent_.add(all / size() + (rank() == size() - 1 ? all % size() : 0));
  }
  static std::int64_t bytes(const at::Tensor& tensor) { return static_cast<std::int64_t>(tensor.nbytes()); }
  Comm& inner_;
  Count& sent_;
};

/// What a rank has sent, by axis.
struct Sent {
  Count world, data, tensor, pipeline;
};

/// The same mesh, counted. Both must outlive it.
inline Mesh counted(Mesh& mesh, Sent& sent) {
  const auto over = [](Comm& comm, Count& count) { return std::make_unique<CountingComm>(comm, count); };
  return Mesh(mesh.layout(), mesh.rank(), mesh.device(),
              {.world = over(mesh.world(), sent.world),
               .data = over(mesh.data(), sent.data),
               .tensor = over(mesh.tensor(), sent.tensor),
               .pipeline = over(mesh.pipeline(), sent.pipeline),
               .activations = over(mesh.activations(), sent.pipeline),
               .gradients = over(mesh.gradients(), sent.pipeline),
               .activations_around = over(mesh.activations(true), sent.pipeline),
               .gradients_around = over(mesh.gradients(true), sent.pipeline),
               .shards = over(mesh.shards(), sent.data),
               .replicas = mesh.replicas() != nullptr ? over(*mesh.replicas(), sent.data) : nullptr});
}

}  // namespace trainyard::mesh
