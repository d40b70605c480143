#pragma once
// Where a rank's reports go in a test.

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "crds/contract/state.h"

namespace trainyard::trainer {

/// A file that is gone with this object.
class ReportFile {
 public:
  ReportFile() : file_(std::tmpfile()) {}
  ~ReportFile() { std::fclose(file_); }
  ReportFile(const ReportFile&) = delete;
  ReportFile& operator=(const ReportFile&) = delete;

  int descriptor() const { return fileno(file_); }

  /// Everything of one kind that was written, in order; after the reporter was closed.
  std::vector<contract::Report> of(contract::ReportKind kind) const {
    std::vector<contract::Report> out;
    std::ifstream lines("/proc/self/fd/" + std::to_string(descriptor()));
    for (std::string line; std::getline(lines, line);) {
      auto decoded = contract::decode<contract::Report>(contract::Json::parse(line));
      EXPECT_TRUE(decoded.problems.empty()) << line;
      if (decoded.value.kind == kind) out.push_back(std::move(decoded.value));
    }
    return out;
  }

 private:
  std::FILE* file_;
};

}  // namespace trainyard::trainer
