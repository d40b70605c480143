#include "crds/contract/shortened.h"

#include <gtest/gtest.h>

#include "crds/contract/fields.h"

namespace trainyard::contract {
namespace {

TEST(AText, ThatIsShortEnoughIsLeftAsItIs) {
  EXPECT_EQ(shortened("abcdef", 6), "abcdef");
  std::string text = "abcdef";
  cut(text, 6);
  EXPECT_EQ(text, "abcdef");
}

TEST(AText, ThatIsTooLongEndsWithASignWithinItsLength) { EXPECT_EQ(shortened("abcdefg", 6), "abc..."); }

TEST(AText, IsCutBetweenTwoCharacters) {
  const std::string text = "aä€𝄞b";  // of one, two, three, four bytes and one
  for (std::size_t bytes = 0; bytes <= text.size(); ++bytes) {
    std::string first = text;
    cut(first, bytes);
    EXPECT_LE(first.size(), bytes);
    EXPECT_GE(first.size() + 3, bytes);
    EXPECT_NO_THROW(Json(first).dump()) << bytes;
    if (bytes >= 3) {
      EXPECT_NO_THROW(Json(shortened(text, bytes)).dump()) << bytes;
    }
  }
}

}  // namespace
}  // namespace trainyard::contract
