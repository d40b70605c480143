#include "controller/kube/hands.h"

#include <system_error>
#include <utility>

namespace trainyard::kube {

Hands::Hands(std::size_t most_threads) : most_threads_(most_threads) {}

Hands::~Hands() { stop(); }

void Hands::run(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    if (num_free_ <= tasks_.size() && threads_.size() < most_threads_) add_thread();
    tasks_.push_back(std::move(task));  // only now: where this throws, whoever asked must be right that nobody does it
  }
  changed_.notify_one();
}

void Hands::add_thread() {
  try {
    threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    if (threads_.empty()) throw;  // else those that are there do it, later
  }
}

std::size_t Hands::num_threads() const {
  const std::lock_guard lock(mutex_);
  return threads_.size();
}

void Hands::stop() {
  std::deque<std::function<void()>> dropped;  // destroyed without the lock: what they hold may call run()
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    dropped.swap(tasks_);
  }
  changed_.notify_all();
  dropped.clear();
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Hands::work() noexcept {
  while (true) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      ++num_free_;
      changed_.wait(lock, [this] { return stopped_ || !tasks_.empty(); });
      --num_free_;
      if (stopped_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace trainyard::kube
