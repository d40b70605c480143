#pragma once
// A disk that fills up, and a machine that stops between two operations, losing what was not synced.

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/worker/checkpoint/unsynced.h"
#include "worker/checkpoint/storage.h"

namespace trainyard::checkpoint {

/// What every operation throws once the machine has stopped.
class MachineStopped : public std::runtime_error {
 public:
  MachineStopped() : std::runtime_error("the machine has stopped") {}
};

class FaultyStorage final : public Storage {
 public:
  /// Stops before the n-th operation that changes something (0: the first); what is not synced is lost then.
  void stop_at(std::int64_t operation) { stop_at_ = operation; }
  /// Stops now.
  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    unsynced_.lose();
  }
  bool stopped() const { return stopped_; }
  /// Writes fail once so many bytes were written.
  void fill_after(std::int64_t bytes, int error = ENOSPC) {
    write_error_ = error;
    room_ = bytes;
  }
  /// What happens before each write has an effect; before anything is written.
  void before_writing(std::function<void()> action) { before_writing_ = std::move(action); }
  std::int64_t operations() const { return operations_; }
  /// Files whose path ends so cannot be opened for reading.
  void fail_to_open(const std::string& ending, int error) {
    fail_to_open(ending, [ending, error] { throw StorageError("open", ending, error); });
  }
  void fail_to_open(std::string ending, std::function<void()> fail) { unreadable_ = {std::move(ending), std::move(fail)}; }
  /// So many of the next files cannot be made.
  void fail_to_create(int times, int error) {
    create_error_ = error;
    creations_to_fail_ = times;
  }
  /// What there is under a path that ends so cannot be removed.
  void fail_to_remove(std::string ending, int error) { irremovable_ = {std::move(ending), error}; }
  /// What others do while the next rename, or the next listing, hangs: before it has any effect.
  void while_renaming(std::function<void()> action) { while_renaming_ = std::move(action); }
  void while_listing(std::function<void()> action) { while_listing_ = std::move(action); }
  /// The next file that is made, and the next that is opened, take so long.
  void delay(std::chrono::milliseconds time) { create_delay_ = open_delay_ = time.count(); }

  void make_directories(const std::filesystem::path& path) override {
    step();
    std::vector<std::filesystem::path> made;
    for (auto at = path; !at.empty() && !std::filesystem::exists(at); at = at.parent_path()) made.push_back(at);
    real_.make_directories(path);
    const std::lock_guard lock(mutex_);
    for (const auto& folder : made) unsynced_.named(folder);
  }
  std::unique_ptr<FileWriter> create(const std::filesystem::path& path) override {
    step();
    if (creations_to_fail_-- > 0) throw StorageError("create", path, create_error_);
    std::this_thread::sleep_for(std::chrono::milliseconds(create_delay_.exchange(0)));
    const bool is_new = !std::filesystem::exists(path);
    auto file = std::make_unique<Writer>(*this, path, real_.create(path));
    const std::lock_guard lock(mutex_);
    if (is_new) unsynced_.named(path);
    unsynced_.written(path);
    return file;
  }
  std::unique_ptr<FileReader> open(const std::filesystem::path& path) override {
    if (unreadable_.second && path.string().ends_with(unreadable_.first)) unreadable_.second();
    std::this_thread::sleep_for(std::chrono::milliseconds(open_delay_.exchange(0)));
    return alive().open(path);
  }
  std::vector<std::string> list(const std::filesystem::path& directory) override {
    if (const auto action = std::exchange(while_listing_, {})) action();
    return alive().list(directory);
  }
  bool exists(const std::filesystem::path& path) override { return alive().exists(path); }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    if (const auto action = std::exchange(while_renaming_, {})) action();
    step();
    real_.rename(from, to);
    const std::lock_guard lock(mutex_);
    unsynced_.renamed(from, to);
  }
  void sync_directory(const std::filesystem::path& path) override {
    step();
    real_.sync_directory(path);
    const std::lock_guard lock(mutex_);
    unsynced_.synced_directory(path);
  }
  void remove_all(const std::filesystem::path& path) override {
    if (irremovable_.second != 0 && path.string().ends_with(irremovable_.first) && exists(path)) {
      throw StorageError("remove", path, irremovable_.second);
    }
    step();
    real_.remove_all(path);
    const std::lock_guard lock(mutex_);
    unsynced_.removed(path);
  }

 private:
  class Writer final : public FileWriter {
   public:
    Writer(FaultyStorage& storage, std::filesystem::path path, std::unique_ptr<FileWriter> real)
        : storage_(storage), path_(std::move(path)), real_(std::move(real)) {}
    void append(const void* bytes, std::size_t count) override {
      if (storage_.before_writing_) storage_.before_writing_();
      storage_.step();
      storage_.room_ -= static_cast<std::int64_t>(count);
      if (storage_.room_ < 0) throw StorageError("write", path_, storage_.write_error_);
      real_->append(bytes, count);
    }
    void sync() override {
      storage_.step();
      real_->sync();
      const std::lock_guard lock(storage_.mutex_);
      storage_.unsynced_.synced(path_);
    }

   private:
    FaultyStorage& storage_;
    std::filesystem::path path_;
    std::unique_ptr<FileWriter> real_;
  };

  Storage& alive() {
    if (stopped_) throw MachineStopped();
    return real_;
  }
  void step() {
    alive();
    if (operations_++ != stop_at_) return;
    stop();
    throw MachineStopped();
  }

  PosixStorage real_;
  std::atomic<std::int64_t> operations_ = 0;
  std::int64_t stop_at_ = -1;
  std::atomic<std::int64_t> room_ = std::numeric_limits<std::int64_t>::max();
  std::atomic<bool> stopped_ = false;
  std::mutex mutex_;
  Unsynced unsynced_;  // under mutex_: ranks are threads
  std::pair<std::string, std::function<void()>> unreadable_;
  std::pair<std::string, int> irremovable_;
  std::atomic<int> creations_to_fail_{0}, create_error_{0}, write_error_{ENOSPC};
  std::function<void()> while_renaming_, while_listing_, before_writing_;
  std::atomic<std::int64_t> create_delay_{0}, open_delay_{0};  // milliseconds
};

}  // namespace trainyard::checkpoint
