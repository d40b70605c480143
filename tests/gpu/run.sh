#!/usr/bin/env bash
# Everything that wants a GPU, on a machine that has one: builds the preset cuda with the tests that need a GPU, runs them, then the GPU
# benchmarks, and prints a short table last. Some five minutes on one H100 with 16 cores.
#
#   tests/gpu/run.sh [tests] [bench]     without a word: both. Longer output goes to $OUT (default build/gpu-results). ROUNDS and STEPS: of
#                                        the comparison with PyTorch (default 2 and 20).
#
# Wants: CUDA 13 (nvcc in PATH or CUDA_HOME), and a python3 that imports torch 2.11 for CUDA 13; LibTorch is taken from there.
# TRAINYARD_PYTHON names another python3. On a machine that reaches no package registry, tests/gpu/pack.sh brings along what else the
# build needs, and the built programs, which are used where they run.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-build/gpu-results}
pack=build/gpu-pack
python=${TRAINYARD_PYTHON:-python3}
mkdir -p "$out"
torch=$($python -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent)')
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
# Programs of another machine were linked with another folder of LibTorch.
LD_LIBRARY_PATH=$torch/lib:$(printf '%s:' "$torch"/../nvidia/*/lib)${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH TRAINYARD_BIN_DIR="$PWD/build/cuda/bin"
test_programs="worker_mesh_test worker_model_test worker_optim_test gpu_test"

starts() { # FOLDER: whether its programs run here; they say so without using the GPU
  local program
  [ -x "$1/trainyard-rank" ] || return 1
  "$1/trainyard-rank" --help > /dev/null 2>&1 || [ $? = 2 ] || return 1
  [ -x "$1/gpu_offload_bench" ] || return 1
  for program in $test_programs; do "$1/$program" --gtest_list_tests > /dev/null 2>&1 || return 1; done
}

build() {
  local arch
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
  if [ -d $pack ]; then
    export CPLUS_INCLUDE_PATH=$PWD/$pack/include
    if [ ! -e build/gtest/lib/libgtest.a ]; then
      cmake -G Ninja -S $pack/googletest -B build/gtest/build -DCMAKE_INSTALL_PREFIX="$PWD/build/gtest" -DCMAKE_INSTALL_LIBDIR=lib > /dev/null
      cmake --build build/gtest/build --target install > /dev/null
    fi
    set -- -DCMAKE_PREFIX_PATH="$PWD/$pack;$PWD/build/gtest"
  fi
  # Warnings of a compiler that the project does not know are no errors here.
  cmake --preset cuda -DTRAINYARD_WERROR=OFF -DTRAINYARD_TORCH="$torch" -DCMAKE_CUDA_ARCHITECTURES="$arch" "$@" > "$out/build.log" 2>&1 &&
    cmake --build build/cuda -j "$(nproc)" --target trainyard-rank gpu_offload_bench $test_programs >> "$out/build.log" 2>&1 ||
    { tail -40 "$out/build.log"; exit 1; }
}

if starts $pack/bin; then
  TRAINYARD_BIN_DIR=$PWD/$pack/bin
  echo "programs: those of $pack/bin"
else
  SECONDS=0
  build
  echo "programs: built here in $SECONDS s"
fi

status=0
for step in ${*:-tests bench}; do
  SECONDS=0
  case $step in
    tests)
      for program in $test_programs; do
        # A filter that finds nothing passes: a test that was renamed would be left out unseen.
        "$TRAINYARD_BIN_DIR/$program" --gtest_filter='*OnGpu*' --gtest_list_tests | grep OnGpu > /dev/null || { status=1; echo "$program: has no test for a GPU"; }
        "$TRAINYARD_BIN_DIR/$program" --gtest_filter='*OnGpu*' > "$out/$program.log" 2>&1 || { status=1; grep -v '^\[ *\(RUN\|OK\)' "$out/$program.log" | tail -60; }
        grep -E '^\[  (PASSED|FAILED|SKIPPED) +\] [0-9]+ test' "$out/$program.log" | sed "s/^/$program: /" || true
      done
      $python -W ignore tests/gpu/training_test.py 2>&1 | tee "$out/training_test.log" || status=1 ;;
    bench)
      $python -W ignore tests/bench/gpu_ceilings_bench.py 2>&1 | tee "$out/ceilings.log" || status=1
      $python -W ignore tests/bench/gpu_engine_bench.py --steps "${STEPS:-20}" --rounds "${ROUNDS:-2}" 2>&1 | tee "$out/engine.log" || status=1
      "$TRAINYARD_BIN_DIR/gpu_offload_bench" 2>&1 | tee "$out/offload.log" || status=1
      # All four sequences at once: on 80 GB eager PyTorch has no room for their logits.
      $python -W ignore tests/bench/gpu_engine_bench.py --steps 8 --rounds 1 --micro-batch 4 --sides trainyard,eager 2>&1 |
        tee "$out/engine-4.log" || status=1 ;;
    *) echo "run.sh: there is no step '$step'; the steps are: tests bench" >&2; exit 2 ;;
  esac
  echo "$step: $SECONDS s"
done
[ $status = 0 ] && echo "gpu: all well" || echo "gpu: something failed, see above and $out"
exit $status
