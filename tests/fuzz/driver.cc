// Runs a fuzz target without libFuzzer: mutates its seeds in a fixed pseudo-random order, so that a failing run can be repeated. With
// clang and -fsanitize=fuzzer the targets have libFuzzer's main instead of this one, which looks for new paths by coverage.
//
//   x_fuzz [runs [seed]]      x_fuzz <file>: one input

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/target.h"

namespace {

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(random() % bound); }

/// Replaces a number of the text by one that parsers get wrong.
void replace_number(std::string& text, Random& random) {
  static const std::vector<std::string> kNumbers{"-1",
                                                 "0",
                                                 "1",
                                                 "2147483648",
                                                 "4294967296",
                                                 "9223372036854775807",
                                                 "9223372036854775808",
                                                 "18446744073709551615",
                                                 "1e308",
                                                 "0.5",
                                                 "\"1\"",
                                                 "[]",
                                                 "{}",
                                                 "null"};
  const auto begin = text.find_first_of("0123456789", below(random, text.size()));
  if (begin == std::string::npos) return;
  const auto end = text.find_first_not_of("0123456789", begin);
  text.replace(begin, (end == std::string::npos ? text.size() : end) - begin, kNumbers[below(random, kNumbers.size())]);
}

void mutate(std::string& text, const std::vector<std::string>& seeds, Random& random) {
  const auto at = below(random, text.size());
  const auto length = 1 + below(random, 16);
  switch (random() % 7) {
    case 0:
      if (!text.empty()) text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
      break;
    case 1: text.insert(at, 1, static_cast<char>(random() % 256)); break;
    case 2: text.erase(at, length); break;
    case 3: text.insert(below(random, text.size()), text.substr(at, length)); break;
    case 4: text.resize(at); break;
    case 5: replace_number(text, random); break;
    case 6: {
      const auto& other = seeds[below(random, seeds.size())];
      text.insert(at, other.substr(below(random, other.size()), length));
      break;
    }
  }
}

int run(const std::string& input, const std::string& repeat) {
  try {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "the target threw: " << error.what() << "\nrepeat it with: " << repeat << "\ninput: " << input << "\n";
    return 1;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string program = argv[0];
  const std::string first = argc > 1 ? argv[1] : "20000";
  if (first.find_first_not_of("0123456789") != std::string::npos) {
    std::ifstream file(first, std::ios::binary);
    return run({std::istreambuf_iterator<char>(file), {}}, program + " " + first);
  }
  const std::string seed = argc > 2 ? argv[2] : "1";
  const auto seeds = trainyard::fuzz::seeds();
  Random random(std::stoull(seed));
  const auto runs = std::stoull(first);
  for (std::uint64_t i = 0; i < runs; ++i) {
    std::string input = seeds[below(random, seeds.size())];
    for (auto changes = random() % 5; changes > 0; --changes) mutate(input, seeds, random);
    if (run(input, program + " " + std::to_string(i + 1) + " " + seed) != 0) return 1;
  }
  std::cout << runs << " inputs, seed " << seed << ": none broke the target\n";
  return 0;
}
