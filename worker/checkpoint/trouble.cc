#include "worker/checkpoint/trouble.h"

#include <cerrno>
#include <new>

#include <c10/util/Exception.h>

#include "crds/contract/user_error.h"
#include "worker/checkpoint/safetensors.h"
#include "worker/checkpoint/storage.h"

namespace trainyard::checkpoint {
namespace {

Trouble trouble_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENODATA:
    case EFBIG: return Trouble::kCorrupt;
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOSPC:
    case EDQUOT:
    case ELOOP:
    case ENAMETOOLONG: return Trouble::kRefused;
    default: return Trouble::kPassing;  // EIO, ESTALE, ETIMEDOUT, EMFILE: to skip a checkpoint for them would lose a good one
  }
}

}  // namespace

Problem problem_of(const std::exception& error) {
  if (const auto* storage = dynamic_cast<const StorageError*>(&error)) {
    return {trouble_of(storage->code().value()), storage->what()};
  }
  if (dynamic_cast<const contract::UserError*>(&error) != nullptr) return {Trouble::kRefused, error.what()};
  if (dynamic_cast<const CorruptFile*>(&error) != nullptr) return {Trouble::kCorrupt, error.what()};
  // All else is the machine's: memory and devices that fail. That says nothing of the files, and skipping a good checkpoint loses it.
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return {Trouble::kPassing, "there is not enough memory"};
  if (const auto* torch = dynamic_cast<const c10::Error*>(&error)) return {Trouble::kPassing, torch->what_without_backtrace()};
  return {Trouble::kPassing, error.what()};
}

}  // namespace trainyard::checkpoint
