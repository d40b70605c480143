#pragma once
// A rank's part of a checkpoint on disk: writing it, and reading any boxes back from what other ranks, of another layout, wrote.

#include <cstdint>
#include <filesystem>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "worker/checkpoint/manifest.h"
#include "worker/checkpoint/staging.h"
#include "worker/checkpoint/storage.h"
#include "worker/checkpoint/tensor_shard.h"

namespace trainyard::checkpoint {

std::string shard_file_name(std::int32_t rank);     // rank-00003.safetensors
std::string fragment_file_name(std::int32_t rank);  // rank-00003.json

/// Writes the rank's tensors as they are copied, then its fragment, both synced, into `directory`. Ends `staging`, however it ends itself.
/// Throws StorageError; ECANCELED when stopped, and when not all is copied.
void write_rank_files(Storage& storage, const std::filesystem::path& directory, std::int32_t rank, Staging& staging,
                      const std::map<std::string, std::string>& metadata, const std::stop_token& stop);

/// Reads the boxes of the shards from a checkpoint into shard.local. Checks each file against the manifest. Throws CorruptFile and
/// StorageError. What was read is checked by verification_sums() below, by all ranks together.
void read_shards(Storage& storage, const std::filesystem::path& directory, const Manifest& manifest,
                 const std::vector<TensorShard>& shards);

/// For each tensor of the manifest, in its order, three numbers to be summed over all ranks: elements held here, and the two halves
/// of the hash over them (halves, so that a sum over 2^31 ranks does not overflow).
std::vector<std::int64_t> verification_sums(const Manifest& manifest, const std::vector<TensorShard>& shards);
/// Empty when the sums over all ranks fit the manifest's hashes. Each element may be held by several ranks, all by equally many.
std::string problem_of_sums(const Manifest& manifest, const std::vector<std::int64_t>& sums);

}  // namespace trainyard::checkpoint
