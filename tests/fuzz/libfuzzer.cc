// With libFuzzer, which brings main: puts the seeds into the first folder of the command line before it is read, and mixes our own
// changes into its.

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/fuzz/mutation.h"
#include "tests/fuzz/target.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* bytes, std::size_t size, std::size_t most);

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path folder = (*argv)[i];
    if (!std::filesystem::is_directory(folder)) continue;
    int number = 0;
    for (const auto& seed : trainyard::fuzz::seeds()) {
      std::ofstream(folder / ("seed-" + std::to_string(number++)), std::ios::binary) << seed;
    }
    break;
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size, std::size_t most, unsigned seed) {
  static const auto kSeeds = trainyard::fuzz::seeds();
  trainyard::fuzz::Random random(seed);
  std::string text(trainyard::fuzz::text_of(bytes, size));
  if (random() % 2 == 0 || !trainyard::fuzz::mutate_json(text, kSeeds, random)) return LLVMFuzzerMutate(bytes, size, most);
  const std::size_t length = std::min(text.size(), most);
  std::memcpy(bytes, text.data(), length);
  return length;
}
