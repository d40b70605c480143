#include "worker/mesh/local_comm.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <tuple>
#include <utility>

#include <ATen/core/grad_mode.h>

namespace trainyard::mesh {

struct LocalWorld::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  Manners manners;
  std::string lost;  // why; empty: all are there

  /// Waits, under `lock`, until `ready` holds. Throws PeerLost when a rank is lost, or does not come in time.
  template <class Ready>
  void wait(std::unique_lock<std::mutex>& lock, Ready&& ready) {
    const auto over = [&] { return !lost.empty() || ready(); };
    if (manners.timeout.count() == 0) {
      changed.wait(lock, over);
    } else if (!changed.wait_for(lock, manners.timeout, over)) {
      throw PeerLost("collective of threads: nobody came within " + std::to_string(manners.timeout.count()) + " ms");
    }
    if (!lost.empty()) throw PeerLost("collective of threads: " + lost);
  }
};

namespace {

/// What the ranks of a group hand to each other.
struct Exchange {
  explicit Exchange(std::int32_t size) : slots(static_cast<std::size_t>(size)) {}
  std::vector<at::Tensor> slots;  // what each rank gave in this round
  std::int32_t arrived = 0;
  std::int32_t left = 0;
  std::int64_t round = 0;
  std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::deque<at::Tensor>> mail;  // (from, to, tag)
  std::set<std::pair<std::int32_t, std::int32_t>> called;  // (who, whom): who has made a first call
};

}  // namespace

class LocalComm final : public Comm {
 public:
  LocalComm(std::shared_ptr<LocalWorld::Shared> shared, std::shared_ptr<Exchange> exchange, std::int32_t rank, std::int32_t size)
      : shared_(std::move(shared)), exchange_(std::move(exchange)), rank_(rank), size_(size) {}

  std::int32_t rank() const override { return rank_; }
  std::int32_t size() const override { return size_; }

  void all_reduce(at::Tensor& tensor, ReduceOp op) override {
    const at::NoGradGuard no_grad;
    const auto parts = trade(tensor);
    tensor.copy_(parts.front());
    for (std::size_t i = 1; i < parts.size(); ++i) {
      if (op == ReduceOp::kSum) {
        tensor.add_(parts[i]);
      } else {
        at::maximum_out(tensor, tensor, parts[i]);
      }
    }
  }

  void all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) override {
    const at::NoGradGuard no_grad;
    const auto parts = trade(in);
    for (std::size_t i = 0; i < parts.size(); ++i) out.at(i).copy_(parts[i]);
  }

  void broadcast(at::Tensor& tensor, std::int32_t root) override {
    const at::NoGradGuard no_grad;
    tensor.copy_(trade(tensor).at(static_cast<std::size_t>(root)));
  }

  void send(const at::Tensor& tensor, std::int32_t to, std::int32_t tag) override {
    auto copy = tensor.detach().clone();
    std::unique_lock lock(shared_->mutex);
    meet(lock, to);
    exchange_->mail[{rank_, to, tag}].push_back(std::move(copy));
    shared_->changed.notify_all();
  }

  void receive(at::Tensor& tensor, std::int32_t from, std::int32_t tag) override {
    std::unique_lock lock(shared_->mutex);
    meet(lock, from);
    auto& box = exchange_->mail[{from, rank_, tag}];
    shared_->wait(lock, [&] { return !box.empty(); });
    const at::Tensor letter = std::move(box.front());
    box.pop_front();
    lock.unlock();
    const at::NoGradGuard no_grad;
    tensor.copy_(letter);
  }

  void barrier() override { trade(at::empty({0})); }

  std::unique_ptr<Pending> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    all_reduce(tensor, op);
    return std::make_unique<Done>();
  }

  std::unique_ptr<Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) override {
    const at::NoGradGuard no_grad;
    at::cat_out(whole, trade(part));
    return std::make_unique<Done>();
  }

  std::unique_ptr<Pending> start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) override {
    const at::NoGradGuard no_grad;
    const auto wholes = trade(whole);
    part.copy_(mine_of(wholes.front()));
    for (std::size_t i = 1; i < wholes.size(); ++i) part.add_(mine_of(wholes[i]));
    return std::make_unique<Done>();
  }

  std::unique_ptr<Pending> start_all_to_all(at::Tensor& out, const at::Tensor& whole) override {
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> parts;
    for (const auto& theirs : trade(whole)) parts.push_back(mine_of(theirs));
    at::cat_out(out, parts);
    return std::make_unique<Done>();
  }

 private:
  /// Threads of one process hand memory over: what was started is done.
  struct Done final : Pending {
    void wait() override {}
  };

  at::Tensor mine_of(const at::Tensor& whole) const { return whole.chunk(size_)[static_cast<std::size_t>(rank_)]; }

  void meet(std::unique_lock<std::mutex>& lock, std::int32_t other) {
    if (!shared_->manners.pairs_meet) return;
    if (exchange_->called.insert({rank_, other}).second) shared_->changed.notify_all();
    shared_->wait(lock, [&] { return exchange_->called.contains({other, rank_}); });
  }

  /// Gives a copy of `mine` and gets what all ranks gave, in rank order. Nobody starts the next round before all took this one's.
  std::vector<at::Tensor> trade(const at::Tensor& mine) {
    auto copy = mine.detach().clone();
    std::unique_lock lock(shared_->mutex);
    Exchange& exchange = *exchange_;
    shared_->wait(lock, [&] { return exchange.left == 0; });
    exchange.slots[static_cast<std::size_t>(rank_)] = std::move(copy);
    const std::int64_t round = exchange.round;
    if (++exchange.arrived == size_) {
      exchange.arrived = 0;
      exchange.left = size_;
      ++exchange.round;
      shared_->changed.notify_all();
    }
    shared_->wait(lock, [&] { return exchange.round != round; });
    auto all = exchange.slots;
    if (--exchange.left == 0) shared_->changed.notify_all();
    return all;
  }

  std::shared_ptr<LocalWorld::Shared> shared_;
  std::shared_ptr<Exchange> exchange_;
  std::int32_t rank_;
  std::int32_t size_;
};

LocalWorld::LocalWorld() : LocalWorld(Manners{}) {}
LocalWorld::LocalWorld(Manners manners) : shared_(std::make_shared<Shared>()) { shared_->manners = manners; }
LocalWorld::~LocalWorld() = default;

std::vector<std::unique_ptr<Comm>> LocalWorld::make_group(std::int32_t size) {
  const auto exchange = std::make_shared<Exchange>(size);
  std::vector<std::unique_ptr<Comm>> group;
  for (std::int32_t rank = 0; rank < size; ++rank) group.push_back(std::make_unique<LocalComm>(shared_, exchange, rank, size));
  return group;
}

std::vector<std::unique_ptr<Mesh>> LocalWorld::make_meshes(const contract::Layout& layout) {
  std::vector<Mesh::Comms> comms(static_cast<std::size_t>(layout.world_size()));
  const auto deal = [&](const std::vector<std::int32_t>& ranks, std::unique_ptr<Comm> Mesh::Comms::*member) {
    auto group = make_group(static_cast<std::int32_t>(ranks.size()));
    for (std::size_t i = 0; i < ranks.size(); ++i) comms[static_cast<std::size_t>(ranks[i])].*member = std::move(group[i]);
  };
  std::vector<std::int32_t> everybody;
  for (std::int32_t rank = 0; rank < layout.world_size(); ++rank) everybody.push_back(rank);
  deal(everybody, &Mesh::Comms::world);
  for (const std::int32_t rank : everybody) {
    const auto first_of = [&](contract::Axis axis) { return layout.group(axis, rank).front() == rank; };
    if (first_of(contract::Axis::kDp)) deal(layout.group(contract::Axis::kDp, rank), &Mesh::Comms::data);
    if (layout.degrees().shard < layout.degrees().dp) {
      if (layout.shard_group(rank).front() == rank) deal(layout.shard_group(rank), &Mesh::Comms::shards);
      if (layout.replica_group(rank).front() == rank) deal(layout.replica_group(rank), &Mesh::Comms::replicas);
    }
    if (first_of(contract::Axis::kTp)) deal(layout.group(contract::Axis::kTp, rank), &Mesh::Comms::tensor);
    if (!first_of(contract::Axis::kPp)) continue;
    deal(layout.group(contract::Axis::kPp, rank), &Mesh::Comms::pipeline);
    deal(layout.group(contract::Axis::kPp, rank), &Mesh::Comms::activations);
    deal(layout.group(contract::Axis::kPp, rank), &Mesh::Comms::gradients);
    deal(layout.group(contract::Axis::kPp, rank), &Mesh::Comms::activations_around);
    deal(layout.group(contract::Axis::kPp, rank), &Mesh::Comms::gradients_around);
  }
  std::vector<std::unique_ptr<Mesh>> meshes;
  for (const std::int32_t rank : everybody) {
    meshes.push_back(
        std::make_unique<Mesh>(layout, rank, at::Device(at::kCPU), std::move(comms[static_cast<std::size_t>(rank)])));
  }
  return meshes;
}

void LocalWorld::lose(const std::string& why) {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->lost.empty()) shared_->lost = why;
  shared_->changed.notify_all();
}

namespace {

class SoloComm final : public Comm {
 public:
  std::int32_t rank() const override { return 0; }
  std::int32_t size() const override { return 1; }
  void all_reduce(at::Tensor&, ReduceOp) override {}
  void all_gather(std::vector<at::Tensor>& out, const at::Tensor& in) override { copy(out.at(0), in); }
  void broadcast(at::Tensor&, std::int32_t) override {}
  void send(const at::Tensor&, std::int32_t, std::int32_t) override { has_no_other(); }
  void receive(at::Tensor&, std::int32_t, std::int32_t) override { has_no_other(); }
  void barrier() override {}
  std::unique_ptr<Pending> start_all_reduce(at::Tensor&, ReduceOp) override { return std::make_unique<Done>(); }
  std::unique_ptr<Pending> start_all_gather(at::Tensor& whole, const at::Tensor& part) override { return copy(whole, part); }
  std::unique_ptr<Pending> start_reduce_scatter(at::Tensor& part, const at::Tensor& whole) override { return copy(part, whole); }
  std::unique_ptr<Pending> start_all_to_all(at::Tensor& out, const at::Tensor& whole) override { return copy(out, whole); }

 private:
  struct Done final : Pending {
    void wait() override {}
  };
  static std::unique_ptr<Pending> copy(at::Tensor& out, const at::Tensor& in) {
    const at::NoGradGuard no_grad;
    out.copy_(in);
    return std::make_unique<Done>();
  }
  [[noreturn]] static void has_no_other() { throw std::logic_error("a group of one rank has no other to send to"); }
};

}  // namespace

std::unique_ptr<Comm> solo_comm() { return std::make_unique<SoloComm>(); }

}  // namespace trainyard::mesh
