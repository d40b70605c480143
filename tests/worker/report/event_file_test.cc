#include "worker/report/event_file.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>

#include <unistd.h>

#include <gtest/gtest.h>

namespace trainyard::report {
namespace {

namespace fs = std::filesystem;

TEST(Crc32c, HasTheValuesOfItsRfc) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43U);
}

/// Reads what a protocol buffer holds, field by field.
class Message {
 public:
  explicit Message(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto key = varint(bytes);
      const auto number = static_cast<int>(key >> 3U);
      switch (key & 7U) {
        case 0: numbers[number] = varint(bytes); break;
        case 1: doubles[number] = take<double>(bytes); break;
        case 2: {
          const auto size = varint(bytes);
          texts.emplace(number, bytes.substr(0, size));
          bytes.remove_prefix(size);
          break;
        }
        case 5: floats[number] = take<float>(bytes); break;
        default: throw std::runtime_error("no such wire type");
      }
    }
  }
  std::map<int, std::uint64_t> numbers;
  std::map<int, double> doubles;
  std::map<int, float> floats;
  std::multimap<int, std::string> texts;

 private:
  static std::uint64_t varint(std::string_view& bytes) {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes.at(0));
      bytes.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
  }
  template <class T>
  static T take(std::string_view& bytes) {
    T value;
    std::memcpy(&value, bytes.substr(0, sizeof value).data(), sizeof value);
    bytes.remove_prefix(sizeof value);
    return value;
  }
};

std::uint32_t masked(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8U; }

/// The data of each record; every length and checksum is right.
std::vector<std::string> records(std::string_view file) {
  std::vector<std::string> out;
  while (!file.empty()) {
    std::uint64_t size = 0;
    std::uint32_t crc = 0;
    std::memcpy(&size, file.data(), sizeof size);
    std::memcpy(&crc, file.data() + 8, sizeof crc);
    EXPECT_EQ(crc, masked(file.substr(0, 8)));
    out.emplace_back(file.substr(12, size));
    std::memcpy(&crc, file.data() + 12 + size, sizeof crc);
    EXPECT_EQ(crc, masked(out.back()));
    file.remove_prefix(16 + size);
  }
  return out;
}

TEST(AnEventFile, HoldsWhatWasAddedInFramesOfProtocolBuffers) {
  const fs::path folder = fs::path(testing::TempDir()) / ("events-" + std::to_string(getpid()));
  {
    EventFile file(folder / "deep", 120);
    file.add(121, {{"train/loss", 2.5}, {"speed/tokens_per_second", 300}});
    file.add(122, {{"train/loss", 2.25}});
    EXPECT_EQ(file.take_trouble(), "");
  }
  std::ostringstream text;
  for (const auto& entry : fs::directory_iterator(folder / "deep")) {
    EXPECT_TRUE(entry.path().filename().string().starts_with("events.out.tfevents.")) << entry.path();
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
  }
  fs::remove_all(folder);
  const auto all = records(text.str());
  ASSERT_EQ(all.size(), 4u);
  const Message version(all[0]), start(all[1]), first(all[2]), second(all[3]);
  EXPECT_GT(version.doubles.at(1), 1.7e9);
  EXPECT_EQ(version.texts.find(3)->second, "brain.Event:2");
  EXPECT_EQ(start.numbers.at(2), 121u);
  EXPECT_EQ(Message(start.texts.find(7)->second).numbers.at(1), 1u);
  EXPECT_EQ(first.numbers.at(2), 121u);
  const Message summary(first.texts.find(5)->second);
  ASSERT_EQ(summary.texts.count(1), 2u);
  const Message value(summary.texts.find(1)->second);
  EXPECT_EQ(value.texts.find(1)->second, "train/loss");
  EXPECT_EQ(value.floats.at(2), 2.5f);
  EXPECT_EQ(second.numbers.at(2), 122u);
}

TEST(AnEventFile, TellsThatItsFolderCannotBeMadeAndTakesWhatComes) {
  EventFile file("/proc/nowhere", 0);
  std::string trouble;
  while (trouble.empty()) trouble = file.take_trouble();
  EXPECT_NE(trouble.find("/proc/nowhere"), std::string::npos);
  file.add(1, {{"train/loss", 1}});
  EXPECT_EQ(file.take_trouble(), "") << "told once";
}

}  // namespace
}  // namespace trainyard::report
