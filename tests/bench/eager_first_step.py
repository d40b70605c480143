"""What engine_bench.py starts for its part "start": eager PyTorch as a person would write it, from the start of Python to the end of the first
step, of which it tells. Arguments: the spec of a job as JSON, and the number of threads."""

import json
import pathlib
import sys

import torch
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "worker/trainer/oracle"))

from eager_llama import Llama, shapes  # noqa: E402

spec = json.loads(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
torch.manual_seed(1)
size, training, length = spec["model"]["size"], spec["training"], spec["data"]["sequenceLength"]
batch, micro_batch = training["globalBatchSize"], spec["parallelism"]["microBatchSize"]
text = torch.frombuffer(bytearray(pathlib.Path(spec["data"]["train"][0]["path"]).read_bytes()), dtype=torch.uint8).long()
parameters = {name: (torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02).requires_grad_() for name, shape in shapes(size).items()}
model = Llama(size, parameters)
optimizer = torch.optim.AdamW(parameters.values(), lr=training["optimizer"]["learningRate"])
first = torch.randperm((text.numel() - 1) // length)[:batch] * length
rows_of_step = torch.stack([text[at:at + length + 1] for at in first.tolist()])
reported = 0.0
for rows in rows_of_step.split(micro_batch):
    loss = functional.cross_entropy(model.logits(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()) * (micro_batch / batch)
    loss.backward()
    reported += loss.item()
torch.nn.utils.clip_grad_norm_(parameters.values(), training["gradientClipping"]["maxNorm"])
optimizer.step()
print(f"step 1/1 | loss {reported:.3f}", flush=True)
