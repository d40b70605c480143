#include "controller/kube/brain.h"

#include <thread>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

namespace trainyard::kube {

namespace asio = boost::asio;

struct Brain::Impl {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(context);
  std::jthread thread{[this]() noexcept { context.run(); }};
};

Brain::Brain() : impl_(std::make_unique<Impl>()) {}
Brain::~Brain() { stop(); }

void Brain::run(std::function<void()> task) { asio::post(impl_->context, std::move(task)); }

void Brain::run_after(std::chrono::milliseconds delay, std::function<void()> task) {
  auto timer = std::make_shared<asio::steady_timer>(impl_->context, delay);
  timer->async_wait([timer, task = std::move(task)](const boost::system::error_code& error) {
    if (!error) task();
  });
}

void Brain::stop() {
  impl_->context.stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace trainyard::kube
