// Runs a fuzz target without libFuzzer: mutates its seeds in a fixed pseudo-random order, so that a failing run can be repeated. With
// clang and -fsanitize=fuzzer the targets have libFuzzer's main instead of this one, which looks for new paths by coverage.
//
//   x_fuzz [runs [seed]]      x_fuzz -max_total_time=<seconds> …: other changes each time      x_fuzz <file>: one input

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <random>
#include <string>

#include <unistd.h>

#include "tests/fuzz/mutation.h"
#include "tests/fuzz/target.h"

namespace {

using trainyard::fuzz::Random;

std::string last_words;  // how to see the input again that is under way

void tell() { [[maybe_unused]] const auto written = ::write(STDERR_FILENO, last_words.data(), last_words.size()); }

void die(int signal) {
  tell();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

int run(const std::string& input, const std::string& repeat) {
  last_words = "repeat it with: " + repeat + "\n";
  try {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "the target threw: " << error.what() << "\n" << last_words << "input: " << input << "\n";
    return 1;
  }
}

}  // namespace

extern "C" void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  for (const int signal : {SIGSEGV, SIGABRT, SIGFPE}) std::signal(signal, die);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(tell);
  const std::string program = argv[0];
  const std::string first = argc > 1 ? argv[1] : "20000";
  std::string seed = argc > 2 ? argv[2] : "1";
  std::uint64_t runs = std::numeric_limits<std::uint64_t>::max();
  auto end = Clock::time_point::max();
  if (const std::string flag = "-max_total_time="; first.starts_with(flag)) {
    end = Clock::now() + std::chrono::seconds(std::stoul(first.substr(flag.size())));
    seed = std::to_string(std::random_device()());
  } else if (first.find_first_not_of("0123456789") != std::string::npos) {
    std::ifstream file(first, std::ios::binary);
    return run({std::istreambuf_iterator<char>(file), {}}, program + " " + first);
  } else {
    runs = std::stoull(first);
  }
  const auto seeds = trainyard::fuzz::seeds();
  Random random(std::stoull(seed));
  std::uint64_t done = 0;
  while (done < runs && Clock::now() < end) {
    std::string input = seeds[random() % seeds.size()];
    for (auto changes = random() % 5; changes > 0; --changes) trainyard::fuzz::mutate(input, seeds, random);
    if (run(input, program + " " + std::to_string(++done) + " " + seed) != 0) return 1;
  }
  std::cout << done << " inputs, seed " << seed << ": none broke the target\n";
  return 0;
}
