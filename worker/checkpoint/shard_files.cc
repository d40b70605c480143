#include "worker/checkpoint/shard_files.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <stdexcept>

#include "worker/checkpoint/tensor_hash.h"

namespace trainyard::checkpoint {

namespace {

constexpr std::int64_t kReadBytes = std::int64_t{64} << 20;  // of a file at a time: bounds what a load holds beside the tensors
constexpr std::size_t kMaxOpenFiles = 64;

std::string rank_name(std::int32_t rank) {
  std::string digits = std::to_string(rank);
  digits.insert(0, digits.size() < 5 ? 5 - digits.size() : 0, '0');
  return "rank-" + digits;
}

/// Whoever waits for room must not, whatever ends the writing.
struct Ending {
  Staging& of;
  explicit Ending(Staging& staging) : of(staging) {}
  ~Ending() { of.end(); }
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;
};

std::vector<TensorLayout> layouts_of(const std::vector<StagedTensor>& tensors) {
  std::vector<TensorLayout> out;
  for (const auto& tensor : tensors) out.push_back({tensor.name, tensor.type, tensor.box.shape});
  return out;
}

/// The open files of one checkpoint, each checked against the manifest when it is opened.
class OpenFiles {
 public:
  OpenFiles(Storage& storage, const std::filesystem::path& directory, const Manifest& manifest)
      : storage_(storage), directory_(directory), manifest_(manifest) {}

  const SafetensorsReader& get(const std::string& name) {
    auto& file = files_[name];
    if (file) return *file;
    const auto path = directory_ / name;
    auto opened = std::make_unique<SafetensorsReader>(storage_, path);
    const auto& expected = manifest_.files.at(name);
    if (opened->file_bytes() != expected.bytes || to_hex(opened->header_hash()) != expected.headerHash) {
      throw CorruptFile(path.string() + " is corrupt: it is not the file that the manifest lists");
    }
    if (files_.size() > kMaxOpenFiles) files_.clear();
    return *(files_[name] = std::move(opened));
  }

 private:
  Storage& storage_;
  std::filesystem::path directory_;
  const Manifest& manifest_;
  std::map<std::string, std::unique_ptr<SafetensorsReader>> files_;
};

void read_box(const SafetensorsReader& file, const std::string& name, const Box& stored, const Box& wanted, at::Tensor& local,
              const Box& held) {
  if (wanted.shape.empty()) {
    local.copy_(file.read_rows(name, 0, 1));
    return;
  }
  // Whole rows are read even where only some columns are wanted: one long read is cheaper than many short ones.
  const std::int64_t row_bytes = num_elements(stored.shape) / stored.shape[0] * static_cast<std::int64_t>(local.element_size());
  const std::int64_t step = std::max<std::int64_t>(1, kReadBytes / std::max<std::int64_t>(1, row_bytes));
  for (std::int64_t row = 0; row < wanted.shape[0]; row += step) {
    Box part = wanted;
    part.offset[0] = wanted.offset[0] + row;
    part.shape[0] = std::min(step, wanted.shape[0] - row);
    auto origin = stored.offset;
    origin[0] = part.offset[0];
    const auto rows = file.read_rows(name, part.offset[0] - stored.offset[0], part.shape[0]);
    view_of(local, held.offset, part).copy_(view_of(rows, origin, part));
  }
}

void read_shard(OpenFiles& files, const std::filesystem::path& directory, const Manifest& manifest, const TensorShard& shard) {
  const Box held = box_of(shard);
  const auto found = manifest.tensors.find(shard.name);
  if (found == manifest.tensors.end()) throw CorruptFile(directory.string() + " lacks the tensor " + shard.name);
  const auto& entry = found->second;
  if (entry.shape != shard.global_shape || entry.dtype != dtype_name(shard.local.scalar_type())) {
    throw CorruptFile(directory.string() + " has " + shard.name + " in another shape or type than this job");
  }
  at::Tensor local = shard.local.detach();
  for (const auto& part : entry.boxes) {
    const Box stored{part.offset, part.shape};
    const Box wanted = intersection(stored, held);
    if (num_elements(wanted.shape) == 0) continue;
    const auto& file = files.get(part.file);
    const auto tensor = file.header().tensors.find(shard.name);
    if (tensor == file.header().tensors.end() || tensor->second.shape != part.shape ||
        dtype_name(tensor->second.type) != entry.dtype) {
      throw CorruptFile((directory / part.file).string() + " is corrupt: it does not hold " + shard.name +
                        " as the manifest says");
    }
    read_box(file, shard.name, stored, wanted, local, held);
  }
}

}  // namespace

std::string shard_file_name(std::int32_t rank) { return rank_name(rank) + ".safetensors"; }
std::string fragment_file_name(std::int32_t rank) { return rank_name(rank) + ".json"; }

void write_rank_files(Storage& storage, const std::filesystem::path& directory, std::int32_t rank, Staging& staging,
                      const std::map<std::string, std::string>& metadata, const std::stop_token& stop) {
  const Ending ending{staging};
  storage.make_directories(directory);
  Fragment fragment;
  if (!staging.tensors().empty()) {
    const auto name = shard_file_name(rank);
    const auto& tensors = staging.tensors();
    SafetensorsWriter file(storage, directory / name, layouts_of(tensors), metadata);
    std::vector<std::uint64_t> hashes(tensors.size(), 0);  // those of a tensor's parts add up to its own
    const auto append = [&](std::size_t tensor, const Box& box, const at::Tensor& part) {
      hashes[tensor] += hash_box(part, box, tensors[tensor].global_shape);
      file.append(part.const_data_ptr(), part.nbytes());
    };
    if (!staging.write(append, stop)) throw StorageError("write", directory / name, ECANCELED);
    const auto written = file.finish();
    fragment.files[name] = {.bytes = written.bytes, .headerHash = to_hex(written.header_hash)};
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      fragment.tensors[tensors[i].name] = {.dtype = std::string(dtype_name(tensors[i].type)),
                                           .shape = tensors[i].global_shape,
                                           .hash = to_hex(hashes[i]),
                                           .boxes = {{name, tensors[i].box.offset, tensors[i].box.shape}}};
    }
  }
  write_text(storage, directory / fragment_file_name(rank), to_text(fragment));
}

void read_shards(Storage& storage, const std::filesystem::path& directory, const Manifest& manifest,
                 const std::vector<TensorShard>& shards) {
  OpenFiles files(storage, directory, manifest);
  for (const auto& shard : shards) {
    if (shard.local.numel() > 0) read_shard(files, directory, manifest, shard);
  }
}

std::vector<std::int64_t> verification_sums(const Manifest& manifest, const std::vector<TensorShard>& shards) {
  std::map<std::string, const TensorShard*> by_name;
  for (const auto& shard : shards) by_name[shard.name] = &shard;
  std::vector<std::int64_t> sums;
  for (const auto& [name, entry] : manifest.tensors) {
    const auto found = by_name.find(name);
    std::uint64_t hash = 0;
    std::int64_t elements = 0;
    if (found != by_name.end()) {
      const auto& shard = *found->second;
      elements = shard.local.numel();
      hash = hash_box(shard.local.detach().cpu().contiguous(), box_of(shard), shard.global_shape);
    }
    sums.insert(sums.end(), {elements, static_cast<std::int64_t>(hash >> 32), static_cast<std::int64_t>(hash & 0xffffffffu)});
  }
  return sums;
}

std::string problem_of_sums(const Manifest& manifest, const std::vector<std::int64_t>& sums) {
  std::string problem;
  auto sum = sums.begin();
  for (const auto& [name, entry] : manifest.tensors) {
    const std::int64_t elements = *sum++;
    const auto high = static_cast<std::uint64_t>(*sum++);
    const std::uint64_t hash = (high << 32) + static_cast<std::uint64_t>(*sum++);
    const std::int64_t whole = num_elements(entry.shape);
    if (elements == 0 || whole == 0) continue;
    if (elements % whole != 0) throw std::invalid_argument("the ranks' shards of " + name + " are no whole number of tensors");
    if (hash != static_cast<std::uint64_t>(elements / whole) * hash_from_hex(entry.hash)) {
      problem += (problem.empty() ? "" : ", ") + name;
    }
  }
  return problem.empty() ? problem : "the content of " + problem + " does not match the hash in its manifest";
}

}  // namespace trainyard::checkpoint
