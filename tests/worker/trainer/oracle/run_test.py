"""`trainyard-worker run` with the real rank: what a user sees on a laptop. TRAINYARD_BIN_DIR names the folder of the programs."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[4]
PROGRAM = pathlib.Path(os.environ.get("TRAINYARD_BIN_DIR", ROOT / "build/full/bin")) / "trainyard-worker"

MANIFEST = """\
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {{name: small}}
spec:
  workers: {{count: 2, threadsPerProcess: 1}}
  parallelism: {{data: 2, microBatchSize: 2}}
  model:
    size: {{layers: 2, hiddenSize: 32, heads: 2, feedForwardSize: 64, vocabularySize: 256}}
  data: {{train: [{{path: /data}}], validation: [{{path: /data}}], sequenceLength: 32}}
  training:
    steps: {steps}
    globalBatchSize: 4
    optimizer: {{name: AdamW, learningRate: 1.0e-3}}
    precision: {{compute: FP32}}
    reduction: Canonical
  evaluation: {{everySteps: 20, batches: 2}}
  checkpoint: {{path: /checkpoints, everySteps: {every}, keep: 2}}
  lifecycle: {lifecycle}
"""


class Run:
    """The program on a manifest, its output in a file. A context: it does not outlive it."""

    def __init__(self, folder, checkpoints, steps, every=20, lifecycle="{}"):
        self.manifest = folder / f"job-{steps}-{every}.yaml"
        self.manifest.write_text(MANIFEST.format(steps=steps, every=every, lifecycle=lifecycle))
        self.log = folder / f"{time.monotonic_ns()}.log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen([PROGRAM, "run", self.manifest, "--every", "5", "--path", f"/data={ROOT / 'LICENSE'}", "--path",
                                             f"/checkpoints={checkpoints}"], stdout=out, stderr=out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def out(self):
        return self.log.read_text(errors="replace")

    def pid_of_rank(self, rank):
        """Ranks are started in their order, so their numbers grow with it, or wrap around once in a long while."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sorted(map(int, children))[rank]

    def exit_code(self, seconds=120):
        return self.process.wait(seconds)

    def wait_for(self, pattern, seconds=120):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.out()):
            assert time.monotonic() < end and self.process.poll() is None, f"no {pattern} in:\n{self.out()}"
            time.sleep(0.05)


class RealRanks(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def run_to_the_end(self, name, steps):
        with Run(self.folder, self.folder / name, steps) as run:
            self.assertEqual(run.exit_code(), 0, run.out())
            return run.out()

    def manifest_of(self, name, step):
        return json.loads((self.folder / name / f"step-{step:08}" / "manifest.json").read_text())

    def tensors_of(self, name, step):
        return {tensor: entry["hash"] for tensor, entry in self.manifest_of(name, step)["tensors"].items()}

    def test_a_manifest_is_trained_to_its_end(self):
        out = self.run_to_the_end("whole", 40)
        self.assertIn("Training small with 2 ranks on this machine", out)
        self.assertRegex(out, r"step 40/40 \(100%\) \| loss \d\.\d{3} \| validation \d\.\d{3} \| [\d,]+ tokens/s")
        self.assertIn(f"Checkpoint of step 40 at {self.folder}/whole/step-00000040", out)
        self.assertRegex(out, r"\nSucceeded: step 40/40")

    def test_a_run_that_was_interrupted_goes_on_to_the_same_weights(self):
        self.run_to_the_end("through", 400)
        with Run(self.folder, self.folder / "halves", 400, every=1000) as run:
            run.wait_for(r"step \d+/400")
            run.process.send_signal(signal.SIGINT)
            self.assertEqual(run.exit_code(), 75, run.out())
            self.assertIn("run the same command again", run.out())
            self.assertNotIn("step 400/400", run.out())
        out = self.run_to_the_end("halves", 400)
        self.assertIn("Resumed: training goes on from step", out)
        self.assertEqual(self.tensors_of("halves", 400), self.tensors_of("through", 400))

    def test_a_rank_that_hangs_is_named_with_the_call_that_the_others_wait_in_and_the_job_goes_on(self):
        with Run(self.folder, self.folder / "hung", 100000, every=50, lifecycle="{hangTimeoutSeconds: 3, maxRestarts: 1}") as run:
            run.wait_for(r"Checkpoint of step 50 ")  # so its first step is over, which a rank tells at once: until then it may take longer
            rank = run.pid_of_rank(1)
            began = time.monotonic()
            os.kill(rank, signal.SIGSTOP)
            run.wait_for("RankHung: .*", 30)
            took = time.monotonic() - began
            run.wait_for("Resumed: training goes on from step")
            out = run.out()
        self.assertRegex(out, r"RankHung: no sign of progress for the 3 s of lifecycle.hangTimeoutSeconds: rank 1 has not answered for \d+ s")
        self.assertRegex(out, r"rank 0 waits for it in (all_reduce|all_gather|all_to_all) \d+ of (the data axis|all ranks) \(\d+ elements?\)")
        self.assertIn("restart 1 of 1", out)
        self.assertLess(took, 3 + 10)
        self.assertFalse(pathlib.Path(f"/proc/{rank}").exists())

    def test_a_second_run_on_the_same_folder_is_noticed_by_the_first(self):
        with Run(self.folder, self.folder / "shared", 1000000, every=50) as first:
            first.wait_for(r"step \d+/1000000")
            self.run_to_the_end("shared", 3)
            first.wait_for("CheckpointFailed: .* has taken the folder since")

    def test_a_corpus_that_is_too_short_fails_with_the_users_error_and_no_restart(self):
        short = self.folder / "short"
        short.write_text("too short")
        manifest = self.folder / "short.yaml"
        manifest.write_text(MANIFEST.format(steps=5, every=5, lifecycle="{}"))
        ended = subprocess.run([PROGRAM, "run", manifest, "--path", f"/data={short}", "--path", f"/checkpoints={self.folder}/none"],
                               capture_output=True, text=True, timeout=120)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("Failed: CorpusTooShort: spec.data.train[0].path", ended.stdout)
        self.assertNotIn("Restarting", ended.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
