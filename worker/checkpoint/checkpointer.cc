#include "worker/checkpoint/checkpointer.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include <unistd.h>

#include "crds/contract/time.h"
#include "worker/checkpoint/coded.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/checkpoint/shard_files.h"
#include "worker/checkpoint/tensor_hash.h"

namespace trainyard::checkpoint {

using contract::Json;
using contract::UserError;

namespace {

constexpr std::int64_t kMaxManifestBytes = std::int64_t{1} << 30;
constexpr std::string_view kStartAnew = "empty or change checkpoint.path";

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Throws where a problem is of a kind that going back to an older checkpoint cannot help; `refused` is the reason for the user.
void expect_readable(const Problem& problem, const char* refused) {
  if (problem.trouble == Trouble::kPassing) throw StorageUnavailable("spec.checkpoint.path: " + problem.text);
  if (problem.trouble == Trouble::kRefused) throw UserError(refused, "spec.checkpoint.path: " + problem.text);
}

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += (text.empty() ? "" : "; ") + line;
  return text;
}

}  // namespace

/// A save on its way. The helper's result is its problem.
struct Checkpointer::Save {
  enum class Phase { kWriting, kCommitting, kDone };

  ~Save() { stop.request_stop(); }  // then `helper` waits for its thread, which looks at `stop` at least every 16 MiB

  std::int64_t step = 0;
  Json state;
  std::optional<std::int64_t> request;
  Phase phase = Phase::kWriting;
  double blocked_seconds = 0.0;
  std::string warning;  // rank 0, written by the helper before its result
  std::stop_source stop;
  std::future<Problem> helper;  // no longer valid: its result was taken
  Problem problem;
};

Checkpointer::Checkpointer(Options options, mesh::Comm& world, Storage& storage)
    : options_(std::move(options)),
      rank_(world.rank()),
      storage_(storage),
      directory_(storage, options_.path),
      agreement_(world, options_.device) {}

Checkpointer::~Checkpointer() = default;

bool Checkpointer::saving() const { return save_ != nullptr; }

std::string Checkpointer::owner() const { return options_.job_uid + "/" + std::to_string(options_.generation); }

std::filesystem::path Checkpointer::temporary(std::int64_t step) const {
  return directory_.temporary(step, options_.job_uid, options_.generation);
}

/// Does `work` on a helper on every rank, and returns the gravest of the problems. The ranks meet once a round meanwhile. What `work`
/// uses must live as long as this object: a lost peer ends the waiting, not the work.
Problem Checkpointer::together(std::function<void()> work) {
  work_ = std::async(std::launch::async, [work = std::move(work)] { return problem_in(work); });
  const auto busy = [&] { return work_.wait_for(options_.round) == std::future_status::ready ? 0 : 1; };
  while (agreement_.highest({busy()})[0] != 0) {
  }
  return agreement_.gravest(work_.get());
}

std::string Checkpointer::open() {
  const auto taken = together([this] {
    if (agreement_.is_first()) directory_.take(owner());
  });
  if (taken.trouble == Trouble::kPassing) throw StorageUnavailable("spec.checkpoint.path: " + taken.text);
  if (taken.trouble != Trouble::kNone) {
    const std::string user = std::to_string(::geteuid());
    throw UserError("CheckpointsNotWritable", "spec.checkpoint.path: " + taken.text +
                                                  ": mount a volume there that the pod's user, " + user +
                                                  ", may write to; of another one's folder change the owner (chown " + user +
                                                  "), or set securityContext.fsGroup in spec.workers.template");
  }
  constexpr const char* kNotShared = "CheckpointsNotShared";
  const auto seen = together([&] {
    if (directory_.owner() == owner()) return;
    throw UserError(kNotShared,
                    "rank " + std::to_string(rank_) + " does not see in " + options_.path + " what rank 0 wrote there");
  });
  if (seen.trouble == Trouble::kPassing) throw StorageUnavailable("spec.checkpoint.path: " + seen.text);
  if (seen.trouble != Trouble::kNone) {
    throw UserError(kNotShared, "spec.checkpoint.path: not shared among workers: " + seen.text +
                                    ": mount one volume there, the same in every worker (access mode ReadWriteMany)");
  }
  return together([this] {
           if (agreement_.is_first()) directory_.remove_leftovers(owner());
         })
      .text;
}

// ---- saving

std::optional<Saved> Checkpointer::start(const Snapshot& snapshot) {
  auto before = finish();
  const auto began = std::chrono::steady_clock::now();
  save_ = std::make_unique<Save>();
  save_->step = snapshot.step;
  save_->state = snapshot.state;
  save_->request = snapshot.request;
  if (durable_step_ == snapshot.step) {
    save_->phase = Save::Phase::kDone;
    return before;
  }
  const auto staging = std::make_shared<Staging>(with_scales(snapshot.shards), options_.staging_bytes);
  save_->helper = std::async(std::launch::async, [this, step = snapshot.step, stop = save_->stop.get_token(), staging] {
    return problem_in([&] {
      write_rank_files(storage_, temporary(step), rank_, *staging, {{"format", "pt"}, {"step", std::to_string(step)}}, stop);
    });
  });
  // Together, a round at a time: no rank waits in the next step's collectives for one that waits for its storage.
  bool is_copied = false;
  do {
    is_copied = is_copied || staging->copy(std::chrono::steady_clock::now() + options_.round);
  } while (agreement_.highest({is_copied ? 0 : 1})[0] != 0);
  save_->blocked_seconds = seconds_since(began);
  return before;
}

std::optional<Saved> Checkpointer::poll() { return advance(false); }

std::optional<Saved> Checkpointer::finish() {
  const auto began = std::chrono::steady_clock::now();
  auto saved = advance(true);
  if (saved) saved->blocked_seconds += seconds_since(began);
  return saved;
}

std::optional<Saved> Checkpointer::advance(bool wait) {
  if (!save_) return std::nullopt;
  Problem problem;
  if (save_->phase == Save::Phase::kWriting) {
    if (!all_done(wait, problem)) return std::nullopt;
    if (problem.trouble != Trouble::kNone) return ended(problem);
    save_->phase = Save::Phase::kCommitting;
    if (agreement_.is_first()) {
      save_->helper = std::async(std::launch::async,
                                 [this, save = save_.get()] { return problem_in([&] { save->warning = commit(*save); }); });
    }
  }
  if (save_->phase == Save::Phase::kCommitting) {
    if (!all_done(wait, problem)) return std::nullopt;
  }
  return ended(problem);
}

/// True on all ranks when every rank's helper has ended; `problem` is then the gravest of them. With `wait` the ranks meet once a round
/// until then: no call waits as long as the slowest rank writes.
bool Checkpointer::all_done(bool wait, Problem& problem) {
  auto& helper = save_->helper;
  const auto most = wait ? options_.round : std::chrono::milliseconds(0);
  do {
    if (helper.valid() && helper.wait_for(most) == std::future_status::ready) save_->problem = helper.get();
    if (agreement_.highest({helper.valid() ? 1 : 0})[0] != 0) continue;
    problem = agreement_.gravest(save_->problem);
    return true;
  } while (wait);
  return false;
}

/// Rank 0, on the helper: makes the manifest of what all ranks wrote, and the checkpoint visible. Returns what went wrong after it was.
std::string Checkpointer::commit(const Save& save) {
  const auto folder = temporary(save.step);
  Manifest manifest{.step = save.step,
                    .generation = options_.generation,
                    .job = options_.job,
                    .jobUid = options_.job_uid,
                    .layout = options_.layout,
                    .identity = options_.identity,
                    .state = save.state};
  for (std::int32_t rank = 0; rank < agreement_.size(); ++rank) {
    const auto file = folder / fragment_file_name(rank);
    add_fragment(manifest, parse_fragment(read_text(storage_, file, kMaxManifestBytes), file.string()));
    storage_.remove_all(file);
  }
  set_version(manifest);
  if (const auto problems = problems_of(manifest); !problems.empty()) {
    throw std::logic_error("the ranks' shards make no whole: " + join(problems));
  }
  write_text(storage_, folder / kManifestName, to_text(manifest));
  directory_.expect_owner(owner());
  directory_.commit(save.step, folder);
  auto corrupt = corrupt_;
  corrupt.erase(save.step);  // it has been replaced
  return problem_in([&] { directory_.prune(save.step, options_.keep, corrupt, owner(), best(save, corrupt)); }).text;
}

/// Those of the lowest loss, of two equal ones the newer. What an earlier process wrote is read once; whoever can't be read has no loss.
std::set<std::int64_t> Checkpointer::best(const Save& save, const std::set<std::int64_t>& corrupt) {
  if (options_.keep_best < 1) return {};
  losses_[save.step] = options_.loss_of(save.step, save.state);
  std::vector<std::pair<double, std::int64_t>> ranking;  // by loss, then the newest first
  std::set<std::int64_t> out;
  for (const auto step : directory_.steps()) {
    if (step > save.step || corrupt.contains(step)) continue;
    if (!losses_.contains(step)) {
      const auto file = directory_.of_step(step) / kManifestName;
      const auto read = [&] {
        losses_[step] = options_.loss_of(step, parse_manifest(read_text(storage_, file, kMaxManifestBytes), file.string()).state);
      };
      const auto trouble = problem_in(read).trouble;
      if (trouble == Trouble::kPassing || trouble == Trouble::kRefused)
        out.insert(step);  // it may be the best, and is looked at again after the next save
      if (trouble != Trouble::kNone) continue;
    }
    if (const auto& loss = losses_.at(step)) ranking.emplace_back(*loss, -step);
  }
  std::sort(ranking.begin(), ranking.end());
  if (std::ssize(ranking) > options_.keep_best) ranking.resize(static_cast<std::size_t>(options_.keep_best));
  for (const auto& [loss, step] : ranking) out.insert(-step);
  return out;
}

/// How the save ended, equal on all ranks; there is none under way afterwards.
Saved Checkpointer::ended(const Problem& problem) {
  Saved saved{.step = save_->step,
              .request = save_->request,
              .failure = problem.text,
              .trouble = problem.trouble,
              .blocked_seconds = save_->blocked_seconds};
  if (problem.trouble == Trouble::kNone) {
    durable_step_ = saved.step;
    corrupt_.erase(saved.step);
    const auto now = std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
    const Json said =
        Json::parse(agreement_.text_of(0, Json{{"at", contract::to_rfc3339(now)}, {"warning", save_->warning}}.dump()));
    saved.status = {
        .step = saved.step, .path = directory_.of_step(saved.step).string(), .completedAt = said["at"].get<std::string>()};
    saved.warning = said["warning"].get<std::string>();
  } else {
    // All ranks wait for it: the same step may be tried again, in the same folder. What cannot be removed now is overwritten then, or
    // removed by the next open(); the failure that is reported is the one that has to be mended.
    together([this, folder = temporary(saved.step)] {
      if (agreement_.is_first()) storage_.remove_all(folder);
    });
  }
  save_.reset();
  return saved;
}

// ---- loading

std::optional<Loaded> Checkpointer::load(const std::vector<TensorShard>& shards) {
  const auto found = std::make_shared<std::vector<std::int64_t>>();
  const auto listed = together([this, found] {
    if (agreement_.is_first()) *found = directory_.steps();
  });
  expect_readable(listed, "CheckpointsUnreadable");
  if (listed.trouble != Trouble::kNone) throw UserError("CheckpointsUnreadable", "spec.checkpoint.path: " + listed.text);
  const auto steps = Json::parse(agreement_.text_of(0, Json(*found).dump())).get<std::vector<std::int64_t>>();
  Loaded loaded;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    std::string problem;
    if (const auto manifest = read_candidate(*step, shards, problem)) {
      durable_step_ = loaded.step = *step;
      loaded.state = manifest->state;
      loaded.path = directory_.of_step(*step).string();
      return loaded;
    }
    loaded.skipped.push_back(problem);
    corrupt_.insert(*step);
  }
  if (steps.empty()) return std::nullopt;
  throw UserError("CheckpointsCorrupt", "spec.checkpoint.path: none of the checkpoints in " + options_.path +
                                            " can be used: " + join(loaded.skipped) +
                                            ": restore one from a backup, or, to start anew, " + std::string(kStartAnew));
}

/// The manifest of a checkpoint whose tensors are in the shards now, or nothing and why; equal on all ranks.
std::optional<Manifest> Checkpointer::read_candidate(std::int64_t step, const std::vector<TensorShard>& shards,
                                                     std::string& problem) {
  const auto folder = directory_.of_step(step);
  const auto file = folder / kManifestName;
  struct Content {
    std::string text;
    Manifest manifest;
  };
  const auto content = std::make_shared<Content>();
  const auto found = together([this, file, step, content] {
    content->text = read_text(storage_, file, kMaxManifestBytes);
    content->manifest = parse_manifest(content->text, file.string());
    if (content->manifest.step == step) return;
    throw CorruptFile(file.string() + " is corrupt: it is of step " + std::to_string(content->manifest.step));
  });
  expect_readable(found, "CheckpointsUnreadable");
  if (found.trouble != Trouble::kNone) {
    problem = found.text;
    return std::nullopt;
  }
  const auto& manifest = content->manifest;
  const auto hash = to_hex(hash_bytes(content->text));
  const bool same = agreement_.text_of(0, hash) == hash;
  if (const auto stale = agreement_.first_problem(
          same ? std::string() : file.string() + " is not the same on rank " + std::to_string(rank_) + " as on rank 0")) {
    throw StorageUnavailable("spec.checkpoint.path: " + *stale);  // both are whole: one is out of a cache
  }
  if (const auto others = differences(options_.identity, manifest.identity); !others.empty()) {
    throw UserError("CheckpointOfAnotherJob", "spec.checkpoint.path: " + folder.string() + " belongs to another training (" +
                                                  manifest.job + "): " + join(others) + ": correct the job, or, to start anew, " +
                                                  std::string(kStartAnew));
  }
  problem = read_tensors(step, manifest, shards);
  if (!problem.empty()) return std::nullopt;
  return manifest;
}

/// Empty on all ranks, or the same problem on all.
std::string Checkpointer::read_tensors(std::int64_t step, const Manifest& manifest, const std::vector<TensorShard>& shards) {
  const auto folder = directory_.of_step(step);
  const auto sums = std::make_shared<std::vector<std::int64_t>>();
  const auto stored = as_stored(manifest, shards);
  const auto found = together([this, folder, manifest, in_files = with_scales(stored), sums] {
    read_shards(storage_, folder, manifest, in_files);
    *sums = verification_sums(manifest, in_files);
  });
  expect_readable(found, "CheckpointsUnreadable");
  if (found.trouble != Trouble::kNone) return found.text;
  const auto problem = problem_of_sums(manifest, agreement_.sum(*sums));
  if (!problem.empty()) return folder.string() + " is corrupt: " + problem;
  for (std::size_t i = 0; i < shards.size(); ++i) take(stored[i], shards[i]);
  return {};
}

}  // namespace trainyard::checkpoint
