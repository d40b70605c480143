// The rules of docs/architecture.md, checked on the sources themselves.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/paths.h"

namespace {

namespace fs = std::filesystem;

const fs::path kRoot = trainyard::test::kSourceDir;

std::string read(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string trim(std::string text) {
  text.erase(0, text.find_first_not_of(' '));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

/// Folder -> the folders it may include, from the table in docs/architecture.md.
std::map<std::string, std::set<std::string>> include_table() {
  std::map<std::string, std::set<std::string>> table;
  std::istringstream lines(read(kRoot / "docs/architecture.md"));
  const std::regex row(R"(^\| ((?:crds|controller|worker)(?:/\w+)?) \|([^|]*)\|$)");
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    auto& allowed = table[match[1]];
    std::istringstream names(match[2]);
    for (std::string name; std::getline(names, name, ',');) {
      if (!trim(name).empty()) allowed.insert(trim(name));
    }
  }
  return table;
}

std::vector<fs::path> sources_below(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
    const auto extension = entry.path().extension();
    if (extension == ".h" || extension == ".cc" || extension == ".cu" || extension == ".cuh") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string without_comments(const std::string& text) { return std::regex_replace(text, std::regex(R"(//[^\n]*)"), ""); }

std::string from_root(const fs::path& path) { return fs::relative(path, kRoot).string(); }

/// Two folders deep at most.
std::string folder_of(const std::string& path) {
  const auto first = path.find('/'), second = path.find('/', first + 1);
  return path.substr(0, second == std::string::npos ? first : second);
}

TEST(Layering, EveryIncludeStandsInTheTable) {
  const auto table = include_table();
  ASSERT_GE(table.size(), 16u);
  const std::regex include(R"re(#include "([^"]+)")re");
  for (const std::string top : {"crds", "controller", "worker"}) {
    for (const auto& file : sources_below(top)) {
      const std::string name = from_root(file), folder = folder_of(name);
      if (file.filename() == "main.cc") continue;
      ASSERT_TRUE(table.contains(folder)) << folder << " is not in the table of docs/architecture.md";
      const std::string text = read(file);
      for (std::sregex_iterator it(text.begin(), text.end(), include), end; it != end; ++it) {
        const std::string included = folder_of((*it)[1]);
        EXPECT_TRUE(included == folder || table.at(folder).contains(included)) << name << " includes " << (*it)[1];
        EXPECT_TRUE(fs::exists(kRoot / (*it)[1].str())) << name << " includes " << (*it)[1] << " not by its path from the root";
      }
    }
  }
}

TEST(Layering, DecidingAndPlanningArePure) {
  const std::regex impure(
      R"(\bnow\(\)|<thread>|<mutex>|<atomic>|<random>|<fstream>|<iostream>|<filesystem>|<cstdlib>|<unistd\.h>|\bgetenv\b|\brand\(|std::c(out|err|log)\b|<torch/|<ATen/|<cpprest/|<boost/asio)");
  for (const std::string folder : {"controller/decide", "worker/plan", "crds/contract"}) {
    for (const auto& file : sources_below(folder)) {
      const std::string text = without_comments(read(file));
      std::smatch match;
      EXPECT_FALSE(std::regex_search(text, match, impure)) << from_root(file) << " has " << match.str();
    }
  }
}

TEST(Layering, TimeAndThreadsAreHandedIn) {
  const std::regex forbidden(R"(_clock::now\(\)|std::j?thread\b|sleep_(for|until)|random_device|std::async)");
  const std::set<std::string> exempt = {"controller/kube", "controller/agents", "controller/observe"};
  for (const auto& file : sources_below("controller")) {
    const std::string name = from_root(file);
    if (file.filename() == "main.cc" || exempt.contains(folder_of(name))) continue;
    const std::string text = without_comments(read(file));
    std::smatch match;
    EXPECT_FALSE(std::regex_search(text, match, forbidden)) << name << " has " << match.str();
  }
}

TEST(Layering, TheWorkersThreadsAreMadeWhereTheyAreKnown) {
  const std::regex forbidden(R"(std::j?thread\b|std::async)");
  // Under ThreadSanitizer is the first; the others need LibTorch.
  const std::set<std::string> known = {"worker/report", "worker/checkpoint", "worker/trainer"};
  for (const auto& file : sources_below("worker")) {
    const std::string name = from_root(file);
    if (known.contains(folder_of(name)) || name == "worker/model/initial_values.cc") continue;
    const std::string text = without_comments(read(file));
    EXPECT_FALSE(std::regex_search(text, forbidden)) << name << " makes a thread";
  }
}

TEST(Layering, CpprestStaysInTheSourcesOfKube) {
  for (const std::string top : {"crds", "controller", "worker"}) {
    for (const auto& file : sources_below(top)) {
      const std::string name = from_root(file);
      if (read(file).find("#include <cpprest/") == std::string::npos) continue;
      EXPECT_EQ(folder_of(name), "controller/kube") << name;
      EXPECT_EQ(file.extension(), ".cc") << name << ": cpprest belongs into sources, not into headers";
    }
  }
}

TEST(Layering, HeadersGuardThemselvesAndUseNoNamespace) {
  for (const std::string top : {"crds", "controller", "worker", "tests"}) {
    for (const auto& file : sources_below(top)) {
      if (file.extension() != ".h" && file.extension() != ".cuh") continue;
      const std::string text = read(file);
      EXPECT_TRUE(text.starts_with("#pragma once\n")) << from_root(file);
      EXPECT_EQ(text.find("\nusing namespace"), std::string::npos) << from_root(file);
    }
  }
}

}  // namespace
