#include "worker/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "tests/worker/data/scratch_folder.h"
#include "worker/checkpoint/tensor_hash.h"

namespace trainyard::checkpoint {
namespace {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

WrittenFile write_safetensors(Storage& storage, const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<TensorLayout> layouts;
  for (const auto& [name, tensor] : tensors) layouts.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  SafetensorsWriter file(storage, path, layouts, metadata);
  for (const auto& named : tensors) file.append(named.tensor.const_data_ptr(), named.tensor.nbytes());
  return file.finish();
}

std::string refusal(const std::string& json, std::int64_t data_bytes) {
  try {
    parse_header(json, data_bytes);
  } catch (const CorruptFile& error) {
    return error.what();
  }
  return {};
}

TEST(Safetensors, WritesTheBytesThatTheFormatPrescribes) {
  const ScratchFolder folder;
  PosixStorage storage;
  const auto tensor = at::tensor(std::vector<float>{1.0F, -2.0F});
  const auto written = write_safetensors(storage, folder.path() / "a", {{"w", tensor}}, {{"format", "pt"}});
  const std::string header = R"({"__metadata__":{"format":"pt"},"w":{"data_offsets":[0,8],"dtype":"F32","shape":[2]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const std::string expected = std::string{static_cast<char>(padded.size()), 0, 0, 0, 0, 0, 0, 0} + padded +
                               std::string("\x00\x00\x80\x3f\x00\x00\x00\xc0", 8);
  EXPECT_EQ(read_text(storage, folder.path() / "a", 1000), expected);
  EXPECT_EQ(written.bytes, static_cast<std::int64_t>(expected.size()));
  EXPECT_EQ(written.header_hash, hash_bytes(std::string_view(expected).substr(0, expected.size() - 8)));
}

TEST(Safetensors, ReadsBackEachTypeAndShapeByRows) {
  const ScratchFolder folder;
  PosixStorage storage;
  std::vector<NamedTensor> tensors;
  for (const auto type :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort, at::kChar, at::kByte, at::kBool}) {
    const std::string name(dtype_name(type));
    EXPECT_EQ(dtype_from(name), type);
    tensors.push_back({name, at::arange(12, at::kFloat).reshape({4, 3}).to(type)});
    tensors.push_back({name + ".scalar", at::scalar_tensor(1, type)});
    tensors.push_back({name + ".empty", at::empty({0, 3}, type)});
  }
  write_safetensors(storage, folder.path() / "a", tensors, {});
  const SafetensorsReader reader(storage, folder.path() / "a");
  EXPECT_EQ(reader.header().tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const std::int64_t rows = tensor.dim() == 0 ? 1 : tensor.size(0);
    EXPECT_TRUE(reader.read_rows(name, 0, rows).equal(tensor)) << name;
    if (rows == 4) {
      EXPECT_TRUE(reader.read_rows(name, 1, 2).equal(tensor.narrow(0, 1, 2))) << name;
    }
  }
  EXPECT_THROW(reader.read_rows("none", 0, 1), CorruptFile);
  EXPECT_THROW(reader.read_rows("F32", 3, 2), std::invalid_argument);
}

TEST(Safetensors, RefusesHeadersThatAreNotWhatTheFormatPrescribes) {
  EXPECT_EQ(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8), "");
  EXPECT_NE(refusal("", 0), "");
  EXPECT_NE(refusal("[]", 0), "");
  EXPECT_NE(refusal("{", 0), "");
  EXPECT_NE(refusal(R"({"w":1})", 0), "");
  EXPECT_NE(refusal(R"({"__metadata__":{"a":1}})", 0), "");
  EXPECT_NE(refusal(R"({"__metadata__":1})", 0), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[2]}})", 8), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", 8), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[2.5],"data_offsets":[0,10]}})", 10), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", 8), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}})", 16), "");
  EXPECT_NE(refusal(R"({"w":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})", 8), "");
  EXPECT_NE(refusal(std::string(100'000, '[') + std::string(100'000, ']'), 0), "");
}

TEST(Safetensors, RefusesOverlapsHolesAndBytesThatBelongToNoTensor) {
  const auto two = [](int begin) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(begin + 4) + "]}}";
  };
  EXPECT_EQ(refusal(two(4), 8), "");
  EXPECT_NE(refusal(two(3), 8).find("overlap or leave a hole"), std::string::npos);
  EXPECT_NE(refusal(two(5), 9).find("overlap or leave a hole"), std::string::npos);
  EXPECT_NE(refusal(two(4), 9).find("the file has 9"), std::string::npos);
  EXPECT_NE(refusal(two(4), 7).find("the file has 7"), std::string::npos);
}

TEST(Safetensors, RefusesFilesThatEndTooEarlyOrClaimAHugeHeader) {
  const ScratchFolder folder;
  PosixStorage storage;
  for (const auto& bytes :
       {std::string(), std::string(7, '\0'), std::string("\x09\0\0\0\0\0\0\0{}", 10), std::string(8, '\xff') + "{}"}) {
    EXPECT_THROW(SafetensorsReader(storage, folder.write("a", bytes)), CorruptFile) << bytes.size();
  }
  EXPECT_THROW(SafetensorsReader(storage, folder.path() / "none"), StorageError);
}

TEST(Safetensors, RefusesToWriteANameTwiceOrATypeThatTheFormatLacks) {
  const ScratchFolder folder;
  PosixStorage storage;
  const auto tensor = at::zeros({2});
  EXPECT_THROW(write_safetensors(storage, folder.path() / "a", {{"w", tensor}, {"w", tensor}}, {}), std::invalid_argument);
  EXPECT_THROW(write_safetensors(storage, folder.path() / "a", {{"__metadata__", tensor}}, {}), std::invalid_argument);
  EXPECT_THROW(write_safetensors(storage, folder.path() / "a", {{"w", at::zeros({2}, at::kComplexFloat)}}, {}),
               std::invalid_argument);
}

TEST(Safetensors, IsNoFileWhereNumbersAreMissingOrTooMany) {
  const ScratchFolder folder;
  PosixStorage storage;
  const std::string bytes(9, 'x');
  for (const std::size_t count : {std::size_t{7}, std::size_t{9}}) {
    SafetensorsWriter file(storage, folder.path() / "a", {{"w", at::kFloat, {2}}}, {});
    file.append(bytes.data(), count);
    EXPECT_THROW(file.finish(), std::logic_error);
  }
}

TEST(PosixStorage, SaysWhatItTriedAndWhyThatFailed) {
  PosixStorage storage;
  const auto full = storage.create("/dev/full");
  try {
    full->append("x", 1);
    FAIL() << "the full device took a byte";
  } catch (const StorageError& error) {
    EXPECT_STREQ(error.what(), "write /dev/full: No space left on device");
    EXPECT_EQ(error.code(), std::errc::no_space_on_device);
  }
  EXPECT_THROW(storage.open("/none/such"), StorageError);
  EXPECT_THROW(storage.rename("/none/such", "/none/other"), StorageError);
  EXPECT_THROW(storage.sync_directory("/none"), StorageError);
  EXPECT_THROW(storage.list("/dev/null"), StorageError);
  EXPECT_TRUE(storage.list("/none").empty());
}

}  // namespace
}  // namespace trainyard::checkpoint
