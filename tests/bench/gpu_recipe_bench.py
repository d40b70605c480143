"""What number formats, recomputation and offload cost and save on one GPU: the engine alone, on the model of gpu_engine_bench.py, a process
a row. Tokens a second, the most of the GPU's memory that was taken, and the last loss, which says that it trained. docs/performance.md
reads it.

    TRAINYARD_BIN_DIR=build/cuda/bin python3 tests/bench/gpu_recipe_bench.py [--steps 6] [--micro-batch 2] [--rows FP32,BF16]
"""

import argparse
import pathlib
import random
import statistics
import sys
import tempfile

import gpu_engine_bench as bench
import torch


def precision(compute, **more):
    return lambda spec: spec["training"].update(precision={"compute": compute, **more})


def recomputed(**how):
    return lambda spec: spec["training"].update(activationCheckpointing=how)


def offloaded(stage, **what):
    return lambda spec: spec["parallelism"].update(zero={"stage": stage, "offload": what})


ROWS = {
    "FP32": precision("FP32"),
    "BF16": precision("BF16"),
    "FP16": precision("FP16"),
    "FP8-Tensorwise": precision("FP8", fp8={"recipe": "Tensorwise"}),
    "FP8-Rowwise": precision("FP8", fp8={"recipe": "Rowwise"}),
    "FP8-Blockwise": precision("FP8", fp8={"recipe": "Blockwise"}),
    "BF16-moments-8-bit": precision("BF16", optimizerStates="Blockwise8Bit"),
    "BF16-recompute-selective": recomputed(mode="Selective"),
    "BF16-recompute-full": recomputed(mode="Full"),
    "BF16-offload-activations": recomputed(mode="None", offload=True),
    "BF16-offload-optimizer": offloaded(1, optimizer=True),
    "BF16-offload-parameters": offloaded(3, optimizer=True, parameters=True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4, help="sequences a step")
    parser.add_argument("--micro-batch", type=int, default=2, help="sequences a micro-batch")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand parameters, to try this script without a GPU")
    options = parser.parse_args()
    options.size = bench.TINY if options.tiny else bench.SLICE
    if not torch.cuda.is_available() and not options.tiny:
        print("skipped: there is no GPU here")
        return 0
    rates, failed = {}, []
    print(f"  {'':26} {'tokens/s':>9} {'of BF16':>8} {'GiB':>6}  last loss", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = pathlib.Path(folder) / "corpus"
        corpus.write_bytes(random.Random(1).randbytes((options.steps + bench.WARM_UP) * options.batch * options.length + 1))
        for name in options.rows.split(","):
            options.change = ROWS[name]
            try:
                found = bench.measured("trainyard", options, corpus)
            except (AssertionError, KeyError, IndexError) as error:
                failed.append(name)
                print(f"  {name:26} failed: {str(error)[-600:]}", flush=True)
                continue
            if found is None:
                print(f"  {name:26} out of memory", flush=True)
                continue
            rates[name] = found["rate"]
            ratio = f"{found['rate'] / rates['BF16']:.2f} x" if "BF16" in rates else "-"
            print(f"  {name:26} {found['rate']:9.0f} {ratio:>8} {found['memory']:6.1f}  {found['loss']:.4f}   "
                  f"step {1000 * statistics.median(found['seconds']):.0f} ms", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
