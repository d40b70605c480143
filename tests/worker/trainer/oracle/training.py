"""Training in eager PyTorch: stock cross entropy, torch.optim.AdamW and, for FP16, torch.amp.GradScaler, around the expression of a step's gradient, the norm and the
learning rate as docs/numerics.md has them. One step is `Training.step()`."""

import math

import torch
from torch.nn import functional

from eager_llama import Llama
from sample_order import SampleOrder

NORM_BLOCK = 4096  # elements


def balanced_sum(values):
    """A binary tree over the index; of a number of values that is no power of two the roots are joined from the youngest on."""
    roots = []
    for value in values:
        count = 1
        while roots and roots[-1][1] == count:
            value, count = roots.pop()[0] + value, count * 2
        roots.append((value, count))
    total = roots.pop()[0]
    while roots:
        total = roots.pop()[0] + total
    return total


def running_sum(values):
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def halving_sum(values):
    """Over the last dimension, filled up with zeros to a power of two: the second half is added to the first until one is left."""
    size = 1 << (values.size(-1) - 1).bit_length()
    values = functional.pad(values, (0, size - values.size(-1)))
    while size > 1:
        size //= 2
        values = values[..., :size] + values[..., size:]
    return values.squeeze(-1)


def gradient_norm(gradients):
    """In FP64: halving sums over blocks of consecutive elements, over a tensor's blocks, and the tensors in name order."""
    total = 0.0
    for name in sorted(gradients):
        squares = gradients[name].flatten().double().square()
        squares = functional.pad(squares, (0, -squares.numel() % NORM_BLOCK))
        total += halving_sum(halving_sum(squares.view(-1, NORM_BLOCK))).item()
    return math.sqrt(total)


def clip_by_stock(gradients, max_norm):
    """PyTorch's own clipping, which changes the gradients. Returns their norm before it, added up in the gradients' type."""
    owners = [torch.zeros_like(gradient) for gradient in gradients]
    for owner, gradient in zip(owners, gradients):
        owner.grad = gradient
    return torch.nn.utils.clip_grad_norm_(owners, max_norm).item()


def learning_rate(training, step):
    """Of optimizer step `step`, counted from 1."""
    peak = training["optimizer"]["learningRate"]
    schedule = training.get("learningRateSchedule", {})
    warmup, minimum = schedule.get("warmupSteps", 0), schedule.get("minimum", 0.0)
    if step <= warmup:
        return peak * step / warmup
    part = (step - warmup) / (training["steps"] - warmup)
    if schedule.get("name", "Cosine") == "Cosine":
        return minimum + (peak - minimum) * (1.0 + math.cos(math.pi * part)) / 2.0
    if schedule["name"] == "WarmupStableDecay":
        decay = schedule.get("decaySteps", -(-training["steps"] // 10))
        begin = max(warmup, training["steps"] - decay)
        return peak if step <= begin else minimum + (peak - minimum) * (1.0 - (step - begin) / (training["steps"] - begin))
    if schedule["name"] == "Linear":
        return minimum + (peak - minimum) * (1.0 - part)
    return peak


class Training:
    def __init__(self, spec, initial, stock_clipping=False):
        """`initial`: the parameters by name, which this training takes over. `stock_clipping`: clips by PyTorch's own clip_grad_norm_."""
        self.stock_clipping = stock_clipping
        self.training, self.micro_batch = spec["training"], spec["parallelism"].get("microBatchSize", 1)
        self.parameters = {name: initial[name].requires_grad_() for name in sorted(initial)}
        self.half = self.training.get("precision", {}).get("compute") == "FP16"
        computed = {name: tensor.detach().half().requires_grad_() if self.half else tensor for name, tensor in self.parameters.items()}
        self.model = Llama(spec["model"]["size"], computed, self.training.get("dropout", 0.0), self.training["seed"])
        self.scaler = torch.amp.GradScaler("cpu", enabled=self.half)
        self.data = spec["data"]
        self.order = SampleOrder(self.data, self.training["seed"])
        options = self.training["optimizer"]
        matrices = [tensor for tensor in self.parameters.values() if tensor.dim() > 1]
        vectors = [tensor for tensor in self.parameters.values() if tensor.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": options.get("weightDecay", 0.01)}, {"params": vectors, "weight_decay": 0.0}],
            betas=(options.get("beta1", 0.9), options.get("beta2", 0.999)), eps=options.get("epsilon", 1.0e-8))
        self.sum = balanced_sum if self.training.get("reduction", "Fast") == "Canonical" else running_sum
        self.steps_done = self.skipped = self.tokens_done = 0

    def sequence_length(self):
        """Of the step that comes: a stage lasts while the training has not come to its end; step is that step's number, counted from 1."""
        step, samples = self.steps_done, sum(self.order.consumed)
        for stage in self.data.get("curriculum", {}).get("stages", []):
            if step <= stage.get("untilStep", 0) or samples * self.data["sequenceLength"] < stage.get("untilTokens", 0) or \
                    samples < math.ceil(stage.get("untilEpoch", 0) * sum(self.order.sizes)):
                return stage["sequenceLength"]
        return self.data["sequenceLength"]

    def micro_batches(self):
        count, length = self.training["globalBatchSize"], self.sequence_length()
        rows = torch.tensor([self.order.tokens(self.order.next()) for _ in range(count)])
        return [(part[:, :-1].reshape(-1, length), part[:, 1:].reshape(-1, length)) for part in rows.split(self.micro_batch)]

    def gradients(self):
        """(loss, gradients by name) of the next global batch."""
        batches = self.micro_batches()
        global_tokens = sum(tokens.numel() for tokens, _ in batches)
        leaves, terms = self.model.leaves, self.training.get("loss")
        losses, parts = [], []
        for tokens, targets in batches:
            logits = self.model.logits(tokens, self.tokens_done).float().flatten(0, 1)
            self.tokens_done += tokens.numel()
            loss = functional.cross_entropy(logits, targets.flatten(), reduction="sum") / global_tokens
            minimized = loss
            if terms:
                minimized = functional.cross_entropy(logits, targets.flatten(), reduction="sum",
                                                     label_smoothing=terms.get("labelSmoothing", 0.0))
                minimized = (minimized + terms.get("zLoss", 0.0) * logits.logsumexp(1).square().sum()) / global_tokens
            parts.append([part.float() for part in torch.autograd.grad(self.scaler.scale(minimized), list(leaves.values()))])
            losses.append(loss.detach())
        summed = {name: self.sum(list(values)) for name, values in zip(leaves, zip(*parts))}
        if "tied head" in summed:
            summed["model.embed_tokens.weight"] = summed["model.embed_tokens.weight"] + summed.pop("tied head")
        return self.sum(losses).item(), summed

    def step(self):
        """Loss, gradient norm before clipping (of the design, and PyTorch's own in FP32 and FP64) and learning rate of one optimizer step."""
        self.steps_done += 1
        loss, gradients = self.gradients()
        for name, gradient in gradients.items():
            self.parameters[name].grad = gradient
        self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(gradients)
        max_norm = self.training.get("gradientClipping", {}).get("maxNorm", math.inf)
        stock = gradients if self.stock_clipping else {name: gradient.clone() for name, gradient in gradients.items()}
        stock_norm_in_fp64 = clip_by_stock([gradient.to(torch.float64, copy=True) for gradient in gradients.values()], max_norm)
        stock_norm = clip_by_stock(stock.values(), max_norm)
        if not self.stock_clipping and max_norm < math.inf:
            coefficient = min(1.0, max_norm / (norm + 1.0e-6))
            for gradient in gradients.values():
                gradient.mul_(coefficient)
        rate = learning_rate(self.training, self.steps_done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        scale = self.scaler.get_scale()
        self.scaler.update()
        self.skipped += self.scaler.get_scale() < scale
        if self.half:
            with torch.no_grad():
                for name, tensor in self.parameters.items():
                    self.model.parameters[name].copy_(tensor)
        return {"loss": loss, "gradientNorm": norm, "stockNorm": stock_norm, "stockNormInFp64": stock_norm_in_fp64, "learningRate": rate,
                "lossScale": self.scaler.get_scale(), "skipped": self.skipped}
