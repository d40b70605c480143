#include "worker/data/corpus.h"

#include <sys/resource.h>

#include <gtest/gtest.h>

#include "tests/worker/data/mappings.h"
#include "tests/worker/data/scratch_folder.h"

namespace trainyard::data {
namespace {

using contract::Source;
using contract::SourceFormat;
using contract::UserError;

std::vector<std::int64_t> all_of(const Corpus& corpus) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(corpus.num_tokens()));
  corpus.read(0, tokens);
  return tokens;
}

/// The reason and message with which a source is refused.
std::pair<std::string, std::string> refusal(const Source& source, std::int64_t vocabulary_size = 256) {
  try {
    const Corpus corpus("data.train[0]", source, vocabulary_size);
    all_of(corpus);
  } catch (const UserError& error) {
    return {error.reason(), error.what()};
  }
  return {};
}

TEST(Corpus, GivesTheBytesOfATextFileAsTokens) {
  const ScratchFolder folder;
  const Corpus corpus("data.train[0]", {.path = folder.write("a.txt", "A\xff\n")}, 256);
  EXPECT_EQ(all_of(corpus), (std::vector<std::int64_t>{65, 255, 10}));
}

TEST(Corpus, ReadsTokenFilesAsLittleEndian) {
  const ScratchFolder folder;
  const std::string bytes("\x01\x02\xff\xff\x00\x00\x00\x80", 8);
  const auto path = folder.write("a.bin", bytes);
  EXPECT_EQ(all_of(Corpus("t", {.path = path, .format = SourceFormat::kUInt16}, 65536)),
            (std::vector<std::int64_t>{0x0201, 0xffff, 0, 0x8000}));
  EXPECT_EQ(all_of(Corpus("t", {.path = path, .format = SourceFormat::kUInt32}, std::int64_t{1} << 32)),
            (std::vector<std::int64_t>{0xffff0201, 0x80000000}));
}

TEST(Corpus, ReadsTheFilesOfADirectoryAsOneStreamInTheOrderOfTheirNames) {
  const ScratchFolder folder;
  folder.write("b", "cd");
  folder.write("a", "ab");
  folder.write("c", "");
  folder.write("d", "e");
  folder.write("..data/x", "hidden");
  folder.write(".hidden", "hidden");
  folder.write("below/x", "not read");
  const Corpus corpus("t", {.path = folder.path()}, 256);
  EXPECT_EQ(all_of(corpus), (std::vector<std::int64_t>{'a', 'b', 'c', 'd', 'e'}));
  std::vector<std::int64_t> middle(3);
  corpus.read(1, middle);
  EXPECT_EQ(middle, (std::vector<std::int64_t>{'b', 'c', 'd'}));
}

TEST(Corpus, FollowsLinksAsConfigMapVolumesMakeThem) {
  const ScratchFolder folder;
  folder.write("..2026/text", "abc");
  std::filesystem::create_symlink("..2026/text", folder.path() / "text");
  EXPECT_EQ(Corpus("t", {.path = folder.path()}, 256).num_tokens(), 3);
}

TEST(Corpus, SaysWhatToDoWhenNothingIsThere) {
  const auto [reason, message] = refusal({.path = "/data/none/train"});
  EXPECT_EQ(reason, "CorpusMissing");
  EXPECT_EQ(message,
            "data.train[0].path: /data/none/train does not exist in this pod: mount a volume that holds it into the template's "
            "container, or correct the path");
}

TEST(Corpus, SaysThatThereIsNothingToRead) {
  const ScratchFolder folder;
  folder.write("empty", "");
  EXPECT_EQ(refusal({.path = folder.path()}).first, "CorpusEmpty");
  EXPECT_EQ(refusal({.path = folder.path() / "empty"}).first, "CorpusEmpty");
}

TEST(Corpus, NamesEachFileThatEndsWithinAToken) {
  const ScratchFolder folder;
  folder.write("a", "123");
  folder.write("b", "1234");
  folder.write("c", "12345");
  const auto [reason, message] = refusal({.path = folder.path(), .format = SourceFormat::kUInt16}, 65536);
  EXPECT_EQ(reason, "CorpusInvalid");
  EXPECT_NE(message.find("/a has 3 bytes, which do not divide into tokens of 2 bytes (format UInt16)"), std::string::npos)
      << message;
  EXPECT_NE(message.find("/c has 5 bytes"), std::string::npos) << message;
  EXPECT_EQ(message.find("/b has"), std::string::npos) << message;
}

TEST(Corpus, NamesFileAndByteOfATokenOutsideTheVocabulary) {
  const ScratchFolder folder;
  folder.write("a", "ab");
  folder.write("b", "ac");
  const auto [reason, message] = refusal({.path = folder.path()}, 'c');
  EXPECT_EQ(reason, "TokenOutOfRange");
  EXPECT_NE(message.find("/b has token 99 at byte 1, but the model's vocabularySize is 99"), std::string::npos) << message;
}

TEST(Corpus, SaysWhyAPathCannotBeLookedAt) {
  const auto [reason, message] = refusal({.path = "/" + std::string(300, 'x')});
  EXPECT_EQ(reason, "CorpusUnreadable");
  EXPECT_NE(message.find("File name too long"), std::string::npos) << message;
  EXPECT_TRUE(message.ends_with(": correct the path")) << message;
}

TEST(Corpus, LeavesWhatAnotherStartMayMendToTheInfrastructure) {
  const ScratchFolder folder;
  const auto path = folder.write("a", "abc");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::string file, directory;
  try {
    Corpus("data.train[0]", {.path = path}, 256);
  } catch (const CorpusUnavailable& error) {
    file = error.what();
  }
  try {
    Corpus("data.train[0]", {.path = folder.path()}, 256);
  } catch (const CorpusUnavailable& error) {
    directory = error.what();
  }
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(file, "data.train[0].path: open " + path.string() + ": Too many open files");
  EXPECT_NE(directory.find("Too many open files"), std::string::npos) << directory;
}

/// `files` files in `folder`, each with a number of four digits; and all that they say.
std::string write_numbers(const ScratchFolder& folder, int files) {
  std::string text;
  for (int i = 0; i < files; ++i) {
    const std::string number = std::to_string(1'000 + i);
    folder.write(number, number);
    text += number;
  }
  return text;
}

TEST(Corpus, ReadsAFolderOfMoreTextsThanAProcessMayHaveOpen) {
  const ScratchFolder folder;
  const std::string text = write_numbers(folder, 3'000);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{.rlim_cur = 256, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const Corpus corpus("t", {.path = folder.path()}, 256);
  EXPECT_EQ(all_of(corpus), std::vector<std::int64_t>(text.begin(), text.end()));
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(mappings_of(folder.path()), 0);
}

TEST(Corpus, MapsTokenFilesWithinWhatAProcessMayMap) {
  const ScratchFolder folder;
  const std::string text = write_numbers(folder, 300);
  std::vector<std::int64_t> tokens;
  for (std::size_t i = 0; i < text.size(); i += 2) tokens.push_back(text[i] + 256 * text[i + 1]);
  const Corpus corpus("t", {.path = folder.path(), .format = SourceFormat::kUInt16}, 65536);
  EXPECT_EQ(all_of(corpus), tokens);
  EXPECT_EQ(mappings_of(folder.path()), 256);  // 128 such sources are within the 65,530 of a process
}

TEST(Corpus, NamesAFileThatCanNoLongerBeRead) {
  const ScratchFolder folder;
  for (const auto format : {SourceFormat::kText, SourceFormat::kUInt16}) {
    const auto path = folder.write("a", "abcd");
    const Corpus corpus("data.train[0]", {.path = path, .format = format}, 65536);
    std::filesystem::resize_file(path, 1);
    try {
      all_of(corpus);
      ADD_FAILURE() << "read";
    } catch (const UserError& error) {
      EXPECT_EQ(error.reason(), "CorpusChanged");
      EXPECT_NE(std::string(error.what()).find(path.string() + " has become shorter than the 4 bytes"), std::string::npos)
          << error.what();
    }
  }
}

TEST(Corpus, LeavesAReadThatAnotherStartMayMendToTheInfrastructure) {
  const ScratchFolder folder;
  for (const char* name : {"a", "b", "c", "d", "e"}) folder.write(name, name);  // more than are kept open
  const Corpus corpus("data.train[0]", {.path = folder.path()}, 256);
  std::filesystem::remove(folder.path() / "e");
  try {
    all_of(corpus);
    ADD_FAILURE() << "read";
  } catch (const CorpusUnavailable& error) {
    EXPECT_EQ(error.what(), "data.train[0].path: open " + (folder.path() / "e").string() + ": No such file or directory");
  }
}

TEST(Corpus, RefusesToReadBehindItsEnd) {
  const ScratchFolder folder;
  const Corpus corpus("t", {.path = folder.write("a", "abc")}, 256);
  std::vector<std::int64_t> tokens(2);
  EXPECT_THROW(corpus.read(2, tokens), std::invalid_argument);
}

}  // namespace
}  // namespace trainyard::data
