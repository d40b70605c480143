#include "worker/checkpoint/tensor_hash.h"

#include <cstring>

#include <gtest/gtest.h>

namespace trainyard::checkpoint {
namespace {

std::uint64_t hash_of(const at::Tensor& whole) {
  const auto shape = whole.sizes().vec();
  return hash_box(whole, {std::vector<std::int64_t>(shape.size(), 0), shape}, shape);
}

TEST(TensorHash, IsTheSumOfItsPartsHoweverTheTensorIsCut) {
  const auto whole = at::arange(5 * 4 * 6, at::kFloat).reshape({5, 4, 6}).contiguous();
  for (std::int64_t dim = 0; dim < 3; ++dim) {
    for (std::int64_t cut = 0; cut <= whole.size(dim); ++cut) {
      std::uint64_t sum = 0;
      for (const auto& [start, length] : {std::pair{std::int64_t{0}, cut}, std::pair{cut, whole.size(dim) - cut}}) {
        const auto part = whole.narrow(dim, start, length).contiguous();
        std::vector<std::int64_t> offset(3, 0);
        offset[static_cast<std::size_t>(dim)] = start;
        sum += hash_box(part, {offset, part.sizes().vec()}, {5, 4, 6});
      }
      EXPECT_EQ(sum, hash_of(whole)) << "cut at " << cut << " of dim " << dim;
    }
  }
}

TEST(TensorHash, ChangesWithEachBitOfEachElement) {
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16, at::kByte}) {
    const auto tensor = at::arange(24, at::kFloat).reshape({4, 6}).to(type).contiguous();
    const auto before = hash_of(tensor);
    auto* bytes = static_cast<unsigned char*>(tensor.data_ptr());
    for (std::size_t bit = 0; bit < tensor.nbytes() * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
      EXPECT_NE(hash_of(tensor), before) << "bit " << bit;
      bytes[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
    }
  }
}

TEST(TensorHash, ChangesWhenElementsSwapPlaces) {
  EXPECT_NE(hash_of(at::tensor(std::vector<float>{1, 2, 3})), hash_of(at::tensor(std::vector<float>{3, 2, 1})));
  EXPECT_NE(hash_of(at::tensor(std::vector<float>{0, 1})), hash_of(at::tensor(std::vector<float>{1, 0})));
  EXPECT_NE(hash_of(at::zeros({2})), hash_of(at::zeros({3})));
}

TEST(TensorHash, KnowsScalarsAndEmptyParts) {
  EXPECT_NE(hash_of(at::scalar_tensor(1.0)), hash_of(at::scalar_tensor(2.0)));
  EXPECT_EQ(hash_of(at::empty({0, 4})), 0u);
}

TEST(ByteHash, ChangesWithEachByteAndTheLength) {
  const std::string text = "{\"step\":100}";
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto other = text;
    other[i] ^= 1;
    EXPECT_NE(hash_bytes(other), hash_bytes(text));
  }
  EXPECT_NE(hash_bytes(std::string(3, '\0')), hash_bytes(std::string(4, '\0')));
  EXPECT_NE(hash_bytes(""), hash_bytes(std::string(1, '\0')));
}

TEST(HashText, HasSixteenDigits) {
  EXPECT_EQ(to_hex(0x0123456789abcdefu), "0123456789abcdef");
  EXPECT_EQ(hash_from_hex("0123456789abcdef"), 0x0123456789abcdefu);
  for (const auto* text : {"", "123", "0123456789abcdeg", "0123456789ABCDEF", "0x23456789abcdef", "0123456789abcdef0"}) {
    EXPECT_THROW(hash_from_hex(text), std::invalid_argument) << text;
  }
}

}  // namespace
}  // namespace trainyard::checkpoint
