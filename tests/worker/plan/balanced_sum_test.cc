#include "worker/plan/balanced_sum.h"

#include <string>

#include <gtest/gtest.h>

namespace trainyard::plan {
namespace {

const auto kWrite = [](std::string left, std::string right) { return "(" + left + "+" + right + ")"; };
using Expression = BalancedSum<std::string, decltype(kWrite)>;

std::string sum(std::int32_t first, std::int32_t count) {
  Expression expression(kWrite);
  for (std::int32_t i = first; i < first + count; ++i) expression.add(std::to_string(i));
  return expression.take();
}

TEST(BalancedSum, IsAPerfectTreeForAPowerOfTwo) {
  EXPECT_EQ(sum(0, 1), "0");
  EXPECT_EQ(sum(0, 4), "((0+1)+(2+3))");
  EXPECT_EQ(sum(0, 8), "(((0+1)+(2+3))+((4+5)+(6+7)))");
}

TEST(BalancedSum, JoinsWhatRemainsFromTheYoungest) {
  EXPECT_EQ(sum(0, 3), "((0+1)+2)");
  EXPECT_EQ(sum(0, 7), "(((0+1)+(2+3))+((4+5)+6))");
}

TEST(BalancedSum, IsTheSameExpressionHoweverItIsCutIntoPowersOfTwo) {
  for (std::int32_t total = 1; total <= 64; total *= 2) {
    for (std::int32_t blocks = 1; blocks <= total; blocks *= 2) {
      Expression outer(kWrite);
      for (std::int32_t block = 0; block < blocks; ++block) outer.add(sum(block * total / blocks, total / blocks));
      EXPECT_EQ(outer.take(), sum(0, total)) << total << " in " << blocks;
    }
  }
}

TEST(BalancedSum, IsEmptyBeforeAndAfter) {
  Expression expression(kWrite);
  EXPECT_TRUE(expression.empty());
  expression.add("0");
  EXPECT_FALSE(expression.empty());
  EXPECT_EQ(expression.take(), "0");
  EXPECT_TRUE(expression.empty());
}

}  // namespace
}  // namespace trainyard::plan
