#!/usr/bin/env bash
# Packs into build/gpu-pack, for tests/gpu/run.sh on a machine with a GPU that reaches no package registry: the headers and sources that
# the build needs besides CUDA and LibTorch, and the programs of the preset cuda, stripped. Run it where .ci/setup packages torch has run;
# carry the folder along with the sources.
set -euo pipefail
cd "$(dirname "$0")/../.."
pack=build/gpu-pack
make --no-print-directory cuda
rm -rf $pack
mkdir -p $pack/include $pack/share/cmake $pack/bin
cp -r /usr/include/nlohmann /usr/include/gloo $pack/include/
cp -r /usr/share/cmake/nlohmann_json $pack/share/cmake/
mkdir $pack/googletest && cp -r /usr/src/googletest/googletest/{CMakeLists.txt,cmake,include,src} $pack/googletest/
sed -i '1i cmake_minimum_required(VERSION 3.25)\nset(GOOGLETEST_VERSION 1.12.1)' $pack/googletest/CMakeLists.txt
for program in trainyard-rank gpu_offload_bench worker_{mesh,model,optim}_test gpu_test; do
  strip -o $pack/bin/$program build/cuda/bin/$program
done
du -sh $pack
