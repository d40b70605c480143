#pragma once
// TensorBoard's event files, written by hand: TFRecord frames around Event messages of protocol buffers.
// Sources: tensorflow/core/lib/io/record_writer.h (frames, masked CRC-32C), tensorflow/core/util/event.proto, framework/summary.proto.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace trainyard::report {

struct Scalar {
  std::string tag;  // train/loss: what stands before the slash is a group of charts
  double value = 0;
};

/// CRC-32C (Castagnoli), bit-reflected, as RFC 3720 has it.
std::uint32_t crc32c(std::string_view bytes);
/// length u64 · masked crc of it u32 · data · masked crc of the data u32, all little-endian.
std::string record_of(std::string_view data);

// The messages; `wall` in seconds since 1970.
std::string version_event(double wall);
/// The run goes on after `step`: what an earlier file has of later steps is void.
std::string start_event(double wall, std::int64_t step);
std::string scalars_event(double wall, std::int64_t step, const std::vector<Scalar>& scalars);

/// One file of a run. Called by one thread, which never waits for the disk: a helper writes.
class EventFile {
 public:
  /// A new file `events.out.tfevents.<seconds>.<host>.<process>` in `folder`, which is made. `step`: done before the run.
  EventFile(std::filesystem::path folder, std::int64_t step);
  /// Waits until all is written, but not if the disk failed before.
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  void add(std::int64_t step, const std::vector<Scalar>& scalars);
  /// Returns once all is written, or after that time.
  void flush(std::chrono::milliseconds most);
  /// Why nothing is written any more; empty: all is well. Told once.
  std::string take_trouble();

 private:
  void push(const std::string& event);
  void run(const std::filesystem::path& folder);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> queue_;  // records
  std::string trouble_;
  bool ends_ = false;
  bool writes_ = false;
  std::jthread writer_;
};

}  // namespace trainyard::report
