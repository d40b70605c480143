#pragma once
// The folder that holds a job's checkpoints: which there are, how one becomes visible, which are removed.
//
//   <path>/step-00000100/              complete, since it has its name only from the moment that it is
//   <path>/.step-00000150-g3-5b1c09fe.tmp/   being written by generation 3 of the job with that hash of its UID, or left by its crash
//   <path>/.owner                      the generation that may write

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "worker/checkpoint/storage.h"

namespace trainyard::checkpoint {

/// A view of the folder; holds no state. Errors are StorageErrors, where nothing else is said.
class Directory {
 public:
  Directory(Storage& storage, std::filesystem::path path) : storage_(storage), path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  Storage& storage() const { return storage_; }
  std::filesystem::path of_step(std::int64_t step) const;
  /// Where one gang writes a step: no other gang writes there, not even one that does not know that it has been replaced.
  std::filesystem::path temporary(std::int64_t step, const std::string& job_uid, std::int64_t generation) const;
  /// The steps of all checkpoints, ascending.
  std::vector<std::int64_t> steps() const;

  /// Gives the temporary directory its name, and makes that durable. One that bears the name already, which then is known to be
  /// corrupt, is put aside, for prune() to remove: what cannot be removed makes no checkpoint fail.
  void commit(std::int64_t step, const std::filesystem::path& temporary);
  /// Once `newest` is durable: removes the `corrupt` ones first, and of the others up to `newest` what is older than the newest `keep`.
  /// Of those the `best` stay. Later ones that are not corrupt are another gang's. Looks before each removal whether `owner` still has the folder. Goes on behind
  /// what cannot be removed, and then throws the first of these errors.
  void prune(std::int64_t newest, std::int32_t keep, const std::set<std::int64_t>& corrupt, const std::string& owner,
             const std::set<std::int64_t>& best = {});
  /// Removes what writers left when they crashed; looks in the same way. Nobody but the owner can commit any more.
  void remove_leftovers(const std::string& owner);

  /// Makes the folder, durably, where there is none, and takes it for `owner` (`uid/generation`); a writer of another generation that
  /// is still alive finds out before it commits.
  void take(const std::string& owner);
  /// Empty when nobody ever took it.
  std::string owner() const;
  /// Throws UserError (CheckpointsTaken) when the folder is no longer `owner`'s. A call to the storage may hang for as long as a network
  /// is cut, and another gang go on meanwhile: so whoever is about to rename or remove looks again.
  void expect_owner(const std::string& owner) const;

 private:
  /// Where a checkpoint lies while it is removed.
  std::filesystem::path aside(std::int64_t step) const;
  void put_aside(std::int64_t step);

  Storage& storage_;
  std::filesystem::path path_;
};

}  // namespace trainyard::checkpoint
