"""The engine and eager PyTorch, in turns within one run, so that what else the machine does meets both; what counts is the median over the
rounds. docs/performance.md reads it. It ends with 1 when a part is below its bar.

    .tools/torch/bin/python3 tests/bench/engine_bench.py [--rounds 5] [--steps 40] [--threads 1] [tokens|launches|start]...

tokens: tokens a second with the demo's model, the same initial values and data on both sides. By the clock, and by CPU seconds, which
other load on the machine hardly changes.
launches: the same where nearly all of a step is calling operations and hardly any of it arithmetic: many narrow layers, few tokens.
start: seconds from the start of the process until its first step is told, of trainyard-rank, of `trainyard-worker run` with its rank, and
of eager_first_step.py. A round before those that count has read all files into memory.
"""

import argparse
import json
import operator
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/worker/trainer/oracle"))

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

import initial_values  # noqa: E402
import ranks  # noqa: E402
from eager_llama import Llama  # noqa: E402
from sample_order import SampleOrder  # noqa: E402

DICTIONARY_TINY = {"layers": 4, "hiddenSize": 128, "heads": 4, "keyValueHeads": 2, "feedForwardSize": 384, "vocabularySize": 256}
NARROW = {"layers": 24, "hiddenSize": 32, "heads": 2, "keyValueHeads": 2, "feedForwardSize": 64, "vocabularySize": 256}
BARS = {"tokens": 1.0, "launches": 1.2, "start": 2.0}
WARM_UP = 5  # steps that are not measured: allocations, the first use of each kernel


def now(pid):
    """(seconds of the clock, CPU seconds that the process has used). A process that has ended has both until it is waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.monotonic(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rates(tokens, start, end):
    return {"by the clock": tokens / (end[0] - start[0]), "by CPU seconds": tokens / (end[1] - start[1])}


def of_the_rank(spec, threads):
    """Tokens a second between the report of step WARM_UP and that of the last step."""
    with ranks.Gang(spec, threads, meter=now) as gang:
        rank = gang.ranks[0]
        rank.reader.join()
        assert gang.exit_codes(600) == [ranks.FINISHED], gang.evidence()
        steps = [(report["progress"], reading) for report, reading in zip(rank.reports, rank.readings) if report["kind"] == "Progress"]
    first = next(entry for entry in steps if entry[0]["step"] >= WARM_UP)
    return rates(steps[-1][0]["tokens"] - first[0]["tokens"], first[1], steps[-1][1])


def of_pytorch(spec, threads):
    """The loop of a person who knows PyTorch: AdamW as its one fused kernel, norms and clipping of all tensors in one call each. Batches are
    read, and rotary tables computed, before the clock runs."""
    torch.set_num_threads(threads)
    size, training = spec["model"]["size"], spec["training"]
    order = SampleOrder(spec["data"], training["seed"])
    batch, micro_batch = training["globalBatchSize"], spec["parallelism"]["microBatchSize"]
    steps = [torch.tensor([order.tokens(order.next()) for _ in range(batch)]) for _ in range(training["steps"])]
    parameters = {name: tensor.requires_grad_() for name, tensor in initial_values.of_model(size, training["seed"]).items()}
    weights = list(parameters.values())
    model = Llama(size, parameters)
    tables = model.tables(spec["data"]["sequenceLength"])
    model.tables = lambda _: tables
    optimizer = torch.optim.AdamW(weights, lr=training["optimizer"]["learningRate"], fused=True)
    for number, step in enumerate(steps):
        if number == WARM_UP:
            start = now(os.getpid())
        optimizer.zero_grad()
        reported = 0.0
        for rows in step.split(micro_batch):
            logits = model.logits(rows[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()) * (micro_batch / batch)
            loss.backward()
            reported += loss.item()
        torch.nn.utils.clip_grad_norm_(weights, training["gradientClipping"]["maxNorm"], foreach=True).item()
        optimizer.step()
    return rates((len(steps) - WARM_UP) * batch * spec["data"]["sequenceLength"], start, now(os.getpid()))


def in_turns(runs, rounds):
    """What each of `runs` (name: function) gave in each round; every second round is in the opposite order."""
    out = []
    for number in range(rounds):
        names = list(runs) if number % 2 == 0 else list(reversed(runs))
        found = {name: runs[name]() for name in names}
        out.append({name: found[name] for name in runs})
    return out


def told(what, ratios, bar=None):
    print(f"  {what}: ratio {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
          + (f"; bar: at least {bar} x" if bar else ""), flush=True)
    return bar is None or statistics.median(ratios) >= bar


def compare_rates(spec, options, bar):
    rounds = in_turns({"trainyard-rank": lambda: of_the_rank(spec, options.threads), "eager PyTorch": lambda: of_pytorch(spec, options.threads)},
                      options.rounds)
    met = True
    for measure in ("by the clock", "by CPU seconds"):
        engine, pytorch = ([found[name][measure] for found in rounds] for name in ("trainyard-rank", "eager PyTorch"))
        print(f"  {measure}: medians {statistics.median(engine):.0f} and {statistics.median(pytorch):.0f} tokens/s")
        met = told(measure, list(map(operator.truediv, engine, pytorch)), bar if measure == "by CPU seconds" else None) and met
    return met


def tokens(options):
    print(f"tokens: {options.threads} thread(s), dictionary-tiny, 2 x 8 sequences of 64, FP32")
    spec = ranks.job(options.corpus, options.steps + WARM_UP, size=DICTIONARY_TINY, sequence_length=64, batch=16, micro_batch=8, reduction="Fast")
    return compare_rates(spec, options, BARS["tokens"])


def launches(options):
    print(f"launches: {options.threads} thread(s), 24 layers of width 32, 2 sequences of 16, FP32")
    spec = ranks.job(options.corpus, 5 * options.steps + WARM_UP, size=NARROW, sequence_length=16, batch=2, micro_batch=2, reduction="Fast")
    return compare_rates(spec, options, BARS["launches"])


def start_of_the_rank(spec, threads):
    began = time.monotonic()
    with ranks.Gang(spec, threads, meter=now) as gang:
        rank = gang.ranks[0]
        rank.wait_for(lambda it: it.of_kind("Progress"))
        return next(reading[0] for report, reading in zip(rank.reports, rank.readings) if report["kind"] == "Progress") - began


def seconds_until_a_line(command, text):
    """From the start of `command` until it has written a line with `text`."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if text in line:
                seconds = time.monotonic() - began
                process.stdout.read()
                return seconds
    raise AssertionError(f"{command[0]} did not come to its first step:\n" + "".join(lines))


def start(options):
    print(f"start: seconds until the first step is told, {options.threads} thread(s), dictionary-tiny, 2 x 8 sequences of 64, FP32")
    spec = ranks.job(options.corpus, 1, size=DICTIONARY_TINY, sequence_length=64, batch=16, micro_batch=8, reduction="Fast")
    spec["workers"]["threadsPerProcess"] = options.threads
    with tempfile.TemporaryDirectory() as folder:
        manifest = pathlib.Path(folder) / "job.yaml"
        manifest.write_text(json.dumps({"apiVersion": "trainyard.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "start"}, "spec": spec}))
        worker = [ranks.PROGRAM.with_name("trainyard-worker"), "run", manifest, "--every", "1"]
        eager = [sys.executable, "-W", "ignore", ROOT / "tests/bench/eager_first_step.py", json.dumps(spec), str(options.threads)]
        runs = {"trainyard-rank": lambda: start_of_the_rank(spec, options.threads), "trainyard-worker run": lambda: seconds_until_a_line(worker, "step 1/1"),
                "eager PyTorch": lambda: seconds_until_a_line(eager, "step 1/1")}
        rounds = in_turns(runs, 1 + options.rounds)[1:]
    for name in runs:
        print(f"  {name}: median {statistics.median(found[name] for found in rounds):.2f} s")
    return all([told(f"eager PyTorch against {name}", [found["eager PyTorch"] / found[name] for found in rounds], BARS["start"])
                for name in runs if name != "eager PyTorch"])


def main():
    parts = {"tokens": tokens, "launches": launches, "start": start}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--corpus", default=str(ROOT / "LICENSE"))
    parser.add_argument("parts", nargs="*", metavar="part", help="tokens, launches, start; all of them by default")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(parts)}")
    return 0 if all([parts[part](options) for part in options.parts or parts]) else 1


if __name__ == "__main__":
    sys.exit(main())
