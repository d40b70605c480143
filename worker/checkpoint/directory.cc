#include "worker/checkpoint/directory.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>

#include "crds/contract/user_error.h"
#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/tensor_hash.h"

namespace trainyard::checkpoint {

namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr std::string_view kReplacedSuffix = ".replaced";
constexpr std::string_view kOwnerName = ".owner";

std::string name_of_step(std::int64_t step) {
  std::string digits = std::to_string(step);
  digits.insert(0, digits.size() < 8 ? 8 - digits.size() : 0, '0');  // so that a listing is in the order of steps
  return std::string(kPrefix) + digits;
}

std::optional<std::int64_t> number_from(std::string_view digits) {
  if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string_view::npos)
    return std::nullopt;
  return std::stoll(std::string(digits));
}

bool is_leftover(std::string_view name) {
  return name.starts_with('.') && name.substr(1).starts_with(kPrefix) &&
         (name.ends_with(kTemporarySuffix) || name.ends_with(kReplacedSuffix));
}

/// What prune() removes of `steps`, which ascend, in the order in which it does. A corrupt one counts for nothing: it must not push out
/// one that is right.
std::vector<std::int64_t> superfluous(const std::vector<std::int64_t>& steps, std::int64_t newest, std::int32_t keep,
                                      const std::set<std::int64_t>& corrupt, const std::set<std::int64_t>& best) {
  std::vector<std::int64_t> first, then;
  std::int32_t kept = 0;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (corrupt.contains(*step)) {
      first.push_back(*step);
    } else if (*step <= newest && kept++ >= std::max(keep, 1) && !best.contains(*step)) {
      then.push_back(*step);
    }
  }
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

}  // namespace

std::filesystem::path Directory::of_step(std::int64_t step) const { return path_ / name_of_step(step); }

std::filesystem::path Directory::temporary(std::int64_t step, const std::string& job_uid, std::int64_t generation) const {
  const std::string job = to_hex(hash_bytes(job_uid)).substr(0, 8);
  return path_ / ("." + name_of_step(step) + "-g" + std::to_string(generation) + "-" + job + std::string(kTemporarySuffix));
}

std::vector<std::int64_t> Directory::steps() const {
  std::vector<std::int64_t> steps;
  for (const auto& name : storage_.list(path_)) {
    if (!name.starts_with(kPrefix)) continue;
    const auto step = number_from(std::string_view(name).substr(kPrefix.size()));
    if (step && name == name_of_step(*step)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void Directory::commit(std::int64_t step, const std::filesystem::path& temporary) {
  const auto to = of_step(step);
  storage_.sync_directory(temporary);
  if (storage_.exists(to)) put_aside(step);
  storage_.rename(temporary, to);
  storage_.sync_directory(path_);
}

std::filesystem::path Directory::aside(std::int64_t step) const {
  return path_ / ("." + name_of_step(step) + std::string(kReplacedSuffix));
}

void Directory::put_aside(std::int64_t step) {
  storage_.remove_all(aside(step));
  storage_.rename(of_step(step), aside(step));
}

void Directory::prune(std::int64_t newest, std::int32_t keep, const std::set<std::int64_t>& corrupt, const std::string& owner,
                      const std::set<std::int64_t>& best) {
  std::exception_ptr first_error;
  const auto attempt = [&](auto&& action) {
    try {
      action();
    } catch (const StorageError&) {
      if (!first_error) first_error = std::current_exception();
    }
  };
  std::vector<std::filesystem::path> hidden{aside(newest)};  // what commit() replaced
  for (const auto step : superfluous(steps(), newest, keep, corrupt, best)) {
    expect_owner(owner);
    attempt([&] {
      put_aside(step);
      hidden.push_back(aside(step));
    });
  }
  // Hidden, durably, before they are taken apart: a crash in between leaves leftovers, never a checkpoint with holes.
  storage_.sync_directory(path_);
  for (const auto& path : hidden) attempt([&] { storage_.remove_all(path); });
  if (first_error) std::rethrow_exception(first_error);
}

void Directory::remove_leftovers(const std::string& owner) {
  for (const auto& name : storage_.list(path_)) {
    if (!is_leftover(name)) continue;
    expect_owner(owner);
    storage_.remove_all(path_ / name);
  }
}

void Directory::take(const std::string& owner) {
  std::vector<std::filesystem::path> made;
  for (auto at = std::filesystem::absolute(path_); !storage_.exists(at); at = at.parent_path()) made.push_back(at);
  storage_.make_directories(path_);
  for (const auto& folder : made) storage_.sync_directory(folder.parent_path());
  write_text(storage_, path_ / kOwnerName, owner);
}

std::string Directory::owner() const {
  const auto file = path_ / kOwnerName;
  return storage_.exists(file) ? read_text(storage_, file, 4096) : std::string();
}

void Directory::expect_owner(const std::string& owner) const {
  if (const auto now = this->owner(); now != owner) {
    throw contract::UserError(
        "CheckpointsTaken",
        path_.string() + ": " + now +
            " has taken the folder since: this generation is over, or two jobs have the same checkpoint.path");
  }
}

}  // namespace trainyard::checkpoint
