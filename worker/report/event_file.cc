#include "worker/report/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

namespace trainyard::report {
namespace {

constexpr std::size_t kMostQueuedSteps = 4096;  // steps, while the disk does not write

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = crc;
  }
  return table;
}

std::uint32_t masked(std::uint32_t crc) { return std::rotr(crc, 15) + 0xA282EAD8U; }

template <class Unsigned>
void append_bytes(std::string& out, Unsigned value) {
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>((value >> (8 * i)) & 0xFFU);
}

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7FU) | 0x80U);
  out += static_cast<char>(value);
}

// Fields of a message: the number and the wire type in a varint, then the value.
void append_varint_field(std::string& out, std::uint32_t number, std::uint64_t value) {
  append_varint(out, (std::uint64_t{number} << 3U) | 0U);
  append_varint(out, value);
}
void append_double_field(std::string& out, std::uint32_t number, double value) {
  append_varint(out, (std::uint64_t{number} << 3U) | 1U);
  append_bytes(out, std::bit_cast<std::uint64_t>(value));
}
void append_text_field(std::string& out, std::uint32_t number, std::string_view value) {
  append_varint(out, (std::uint64_t{number} << 3U) | 2U);
  append_varint(out, value.size());
  out += value;
}
void append_float_field(std::string& out, std::uint32_t number, float value) {
  append_varint(out, (std::uint64_t{number} << 3U) | 5U);
  append_bytes(out, std::bit_cast<std::uint32_t>(value));
}

/// Of an Event: wall_time = 1, step = 2.
std::string event_at(double wall, std::int64_t step) {
  std::string event;
  append_double_field(event, 1, wall);
  if (step != 0) append_varint_field(event, 2, static_cast<std::uint64_t>(step));
  return event;
}

double wall_seconds() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string file_name() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) std::strncpy(host.data(), "unknown", host.size() - 1);
  return "events.out.tfevents." + std::to_string(static_cast<std::int64_t>(wall_seconds())) + "." + host.data() + "." +
         std::to_string(getpid());
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr auto kTable = make_table();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFFU];
  return ~crc;
}

std::string record_of(std::string_view data) {
  std::string length;
  append_bytes(length, std::uint64_t{data.size()});
  std::string record = length;
  append_bytes(record, masked(crc32c(length)));
  record += data;
  append_bytes(record, masked(crc32c(data)));
  return record;
}

std::string version_event(double wall) {
  std::string event = event_at(wall, 0);
  append_text_field(event, 3, "brain.Event:2");  // file_version
  return event;
}

std::string start_event(double wall, std::int64_t step) {
  std::string session;
  append_varint_field(session, 1, 1);  // SessionLog.status = START
  std::string event = event_at(wall, step);
  append_text_field(event, 7, session);  // session_log
  return event;
}

std::string scalars_event(double wall, std::int64_t step, const std::vector<Scalar>& scalars) {
  std::string summary;
  for (const auto& [tag, number] : scalars) {
    std::string value;
    append_text_field(value, 1, tag);                          // Value.tag
    append_float_field(value, 2, static_cast<float>(number));  // Value.simple_value
    append_text_field(summary, 1, value);                      // Summary.value
  }
  std::string event = event_at(wall, step);
  append_text_field(event, 5, summary);  // summary
  return event;
}

EventFile::EventFile(std::filesystem::path folder, std::int64_t step)
    : writer_([this, folder = std::move(folder)] { run(folder); }) {
  push(version_event(wall_seconds()));
  push(start_event(wall_seconds(), step + 1));
}

EventFile::~EventFile() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
}

void EventFile::add(std::int64_t step, const std::vector<Scalar>& scalars) { push(scalars_event(wall_seconds(), step, scalars)); }

void EventFile::push(const std::string& event) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(record_of(event));
    if (queue_.size() > kMostQueuedSteps) queue_.pop_front();
  }
  changed_.notify_all();
}

void EventFile::flush(std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, most, [this] { return !trouble_.empty() || (queue_.empty() && !writes_); });
}

std::string EventFile::take_trouble() {
  const std::lock_guard lock(mutex_);
  return std::exchange(trouble_, {});
}

void EventFile::run(const std::filesystem::path& folder) {
  const auto give_up = [this](const std::string& why) {
    const std::lock_guard lock(mutex_);
    trouble_ = why;
    queue_.clear();
    writes_ = false;
    changed_.notify_all();
  };
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return give_up("make the folder " + folder.string() + ": " + error.message());
  const auto path = folder / file_name();
  std::ofstream file(path, std::ios::binary);
  while (true) {
    std::string bytes;
    {
      std::unique_lock lock(mutex_);
      writes_ = false;
      changed_.notify_all();
      changed_.wait(lock, [this] { return ends_ || !queue_.empty(); });
      if (queue_.empty()) return;
      for (; !queue_.empty(); queue_.pop_front()) bytes += queue_.front();
      writes_ = true;
    }
    errno = 0;
    if (!file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush())
      return give_up("write " + path.string() + ": " + (errno != 0 ? std::strerror(errno) : "an I/O error"));
  }
}

}  // namespace trainyard::report
