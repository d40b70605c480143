#include "worker/agent/line_splitter.h"

#include <vector>

#include <gtest/gtest.h>

namespace trainyard::agent {
namespace {

std::vector<std::string> split(const std::vector<std::string>& pieces, std::size_t limit = 100) {
  std::vector<std::string> lines;
  LineSplitter splitter(limit, [&lines](std::string_view line) { lines.emplace_back(line); });
  for (const auto& piece : pieces) splitter.add(piece);
  splitter.finish();
  return lines;
}

using Lines = std::vector<std::string>;

TEST(LineSplitter, JoinsWhatCameInPieces) { EXPECT_EQ(split({"on", "e\ntw", "o\n"}), (Lines{"one", "two"})); }
TEST(LineSplitter, KeepsEmptyLinesAndDropsCarriageReturns) { EXPECT_EQ(split({"a\r\n\nb\n"}), (Lines{"a", "", "b"})); }
TEST(LineSplitter, TakesARestWithoutLineEndForALine) { EXPECT_EQ(split({"a\nb"}), (Lines{"a", "b"})); }
TEST(LineSplitter, CutsALineThatDoesNotEnd) { EXPECT_EQ(split({"abcdefgh", "ij\nk\n"}, 4), (Lines{"abcd", "efgh", "ij", "k"})); }

}  // namespace
}  // namespace trainyard::agent
