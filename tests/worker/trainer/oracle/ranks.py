"""Starts real trainyard-rank processes as an agent does: the configuration is the first line of standard input, control lines follow,
reports come from file descriptor 3."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[4]
PROGRAM = pathlib.Path(os.environ.get("TRAINYARD_BIN_DIR", ROOT / "build/full/bin")) / "trainyard-rank"
REPORTS = 3  # the descriptor
FINISHED, USER_ERROR, STOPPED, PEER_LOST = 0, 2, 75, 76  # exit codes, crds/contract/state.h

if not PROGRAM.exists():
    raise SystemExit(f"there is no {PROGRAM}: build it (make build), or name its folder in TRAINYARD_BIN_DIR")


class Rank:
    """One process. A thread collects its reports; `changed` is notified at each, and when they end. `meter`, called with the process id
    when a report comes, gives the entries of `readings`."""

    def __init__(self, config, log, folder=None, meter=None):
        self.reports, self.readings, self.changed, self.ended = [], [], threading.Condition(), False
        self.meter = meter
        self.log = log
        read_end, write_end = os.pipe()
        with open(log, "wb") as out:
            self.process = subprocess.Popen([str(PROGRAM)], stdin=subprocess.PIPE, stdout=out, stderr=out, close_fds=False, cwd=folder,
                                            preexec_fn=lambda: os.dup2(write_end, REPORTS))
        os.close(write_end)
        self.reader = threading.Thread(target=self._read, args=(read_end,), daemon=True)
        self.reader.start()
        self.say(config)

    def say(self, message):
        """A line of JSON: the configuration first, later RankControl."""
        try:
            self.process.stdin.write((json.dumps(message) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; its exit code and reports say why

    def _read(self, read_end):
        with os.fdopen(read_end, "rb") as lines:
            for line in lines:
                with self.changed:
                    self.reports.append(json.loads(line))
                    if self.meter:
                        self.readings.append(self.meter(self.process.pid))
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def of_kind(self, kind):
        return [report[kind.lower()] for report in list(self.reports) if report["kind"] == kind]

    def wait_for(self, condition, seconds=60):
        """Until condition(self) holds; AssertionError with the log when it does not in time, or the reports have ended."""
        with self.changed:
            self.changed.wait_for(lambda: condition(self) or self.ended, seconds)
        assert condition(self), "the rank did not get there; this is its evidence:\n" + self.evidence()

    def exit_code(self, seconds=60):
        code = self.process.wait(seconds)
        self.reader.join(seconds)
        return code

    def evidence(self):
        """What it said of a failure, and the end of its log."""
        failures = "".join(f"{failure['reason']}: {failure['message']}\n" for failure in self.of_kind("Failure"))
        return failures + pathlib.Path(self.log).read_text(errors="replace")[-3000:]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.reader.join()


class Gang:
    """All ranks of a spec on this machine. A context: none of them outlives it. `folders`: where each of them runs."""

    generation = 0

    def __init__(self, spec, threads=1, folders=None, meter=None):
        Gang.generation += 1
        self.folder = tempfile.TemporaryDirectory()
        self.ranks = []
        port = free_port()
        for rank in range(spec["workers"]["count"]):
            config = {"jobUid": "oracle", "generation": Gang.generation, "rank": rank, "localRank": rank,
                      "worldSize": spec["workers"]["count"], "threads": threads, "bindAddress": "127.0.0.1",
                      "rendezvous": {"host": "127.0.0.1", "port": port}, "spec": spec}
            self.ranks.append(Rank(config, os.path.join(self.folder.name, f"rank-{rank}.log"),
                                   folders[rank] if folders else None, meter))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for rank in self.ranks:
            rank.close()
        self.folder.cleanup()

    def say(self, message):
        for rank in self.ranks:
            rank.say(message)

    def exit_codes(self, seconds=120):
        end = time.monotonic() + seconds
        return [rank.exit_code(max(0.1, end - time.monotonic())) for rank in self.ranks]

    def evidence(self):
        return "\n".join(f"rank {number}: {rank.evidence()}" for number, rank in enumerate(self.ranks))

    def progress(self):
        """The steps, of the one rank that reports them."""
        reporting = [rank.of_kind("Progress") for rank in self.ranks]
        reporting = [steps for steps in reporting if steps]
        assert len(reporting) == 1, f"{len(reporting)} ranks report progress:\n" + self.ranks[0].evidence()
        return reporting[0]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(spec, threads=1, seconds=300):
    """Trains to the end; the progress after each step."""
    with Gang(spec, threads) as gang:
        codes = gang.exit_codes(seconds)
        assert codes == [FINISHED] * len(codes), f"exit codes {codes}:\n" + gang.evidence()
        return gang.progress()


def job(train, steps, *, data=1, pipeline=1, pipeline_schedule=None, tensor=1, reduction="Canonical", size=None, sequence_length=32, batch=8,
        micro_batch=2, checkpoint=None, seed=1, schedule=None, max_norm=1.0, learning_rate=2.0e-3, weight_decay=0.01, precision="FP32", zero=0, curriculum=None,
        loss=None, dropout=0.0, sequence=False):
    """A spec; `train` is a path or a list of sources. Small, so that a step takes milliseconds."""
    spec = {
        "workers": {"count": data * pipeline * tensor},
        "parallelism": {"data": data, "pipeline": pipeline, "tensor": tensor, "microBatchSize": micro_batch, "zero": {"stage": zero}},
        "model": {"size": size or {"layers": 2, "hiddenSize": 64, "heads": 4, "keyValueHeads": 2, "feedForwardSize": 160,
                                   "vocabularySize": 256}},
        "data": {"train": train if isinstance(train, list) else [{"path": str(train)}], "sequenceLength": sequence_length},
        "training": {
            "steps": steps, "globalBatchSize": batch, "seed": seed,
            "optimizer": {"learningRate": learning_rate, "weightDecay": weight_decay},
            "learningRateSchedule": schedule or {"name": "Cosine", "warmupSteps": min(10, steps // 2), "minimum": 1.0e-4},
            "precision": {"compute": precision}, "reduction": reduction},
        "lifecycle": {"startTimeoutSeconds": 60},
    }
    if sequence:
        spec["parallelism"]["sequence"] = True
    if loss:
        spec["training"]["loss"] = loss
    if dropout:
        spec["training"]["dropout"] = dropout
    if curriculum:
        spec["data"]["curriculum"] = {"stages": curriculum}
    if pipeline_schedule:
        spec["parallelism"]["pipelineSchedule"] = pipeline_schedule
    if max_norm:
        spec["training"]["gradientClipping"] = {"maxNorm": max_norm}
    if checkpoint:
        spec["checkpoint"] = checkpoint
    return spec
