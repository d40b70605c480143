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
TEST(LineSplitter, MakesTheSameLinesWhereverTheBytesAreCut) {
  const std::string text = "abcd\nabcdef\nabc\r\nabc\rd\nabcdefgh\r\nabcd";
  const auto lines = split({text}, 4);
  EXPECT_EQ(lines, (Lines{"abcd", "abcd", "ef", "abc", "abc\r", "d", "abcd", "efgh", "", "abcd"}));
  for (std::size_t at = 0; at <= text.size(); ++at) EXPECT_EQ(split({text.substr(0, at), text.substr(at)}, 4), lines) << at;
}

}  // namespace
}  // namespace trainyard::agent
