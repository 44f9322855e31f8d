"""How many scans pass at once: chosen by `train.batch_size: auto`, and refused where memory can't hold them."""

import torch

from pipeline.config import Config
from pipeline.console import count, stdout
from pipeline.domain import UsageError
from pipeline.model.backbone import build_network
from pipeline.model.memory import available_bytes, is_out_of_memory, step_need
from pipeline.model.precision import trains_in_bf16
from pipeline.model.stages import hold_all_norms, norms_are_held, recompute_stages

MOST = 32
"""The largest batch that is chosen: larger ones seldom learn better, and want other learning rates."""
LEAST_STEPS = 8
"""Steps an epoch that a chosen batch leaves, where scans are few."""
SHARE = 0.8
"""Of the available memory, what a chosen batch may need; the estimate is no promise."""


def with_batch_size(config: Config, outputs: int, scans: int, device: torch.device) -> Config:
    """The config with a number for `train.batch_size: auto`, said aloud; any other config as it is.

    The largest power of two up to 32 that leaves eight steps an epoch and that memory holds: found by trial on a GPU,
    from an estimate on a CPU. One scan at least: whether that fits is `check_memory`'s question.
    """
    if config.train.batch_size != "auto":
        return config
    most = max(1, min(MOST, scans // LEAST_STEPS))
    sizes = [2**k for k in range(most.bit_length())][::-1]
    if device.type == "cuda":
        chosen = next((size for size in sizes if passes(config, outputs, size, device)), 1)
    else:
        need, available = step_need(config, outputs), available_bytes()
        room = most if need is None or available is None else need.most(int(SHARE * available))
        chosen = next((size for size in sizes if size <= room), 1)
    stdout.print(
        f"train.batch_size: auto is {chosen} here, for {count(scans, 'scan')} on a {device.type.upper()}", markup=False
    )
    return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": chosen})})


def passes(config: Config, outputs: int, scans: int, device: torch.device) -> bool:
    """Whether a device has the memory for a training step of so many scans: it is tried."""
    try:
        network = build_network(config.model, outputs).to(device).train()
        if config.train.recompute:
            recompute_stages(network)
        optimizer = torch.optim.AdamW(network.parameters())
        inputs = torch.zeros(scans, config.model.channels, *reversed(config.preprocess.size), device=device)
        half = trains_in_bf16(config.train.precision, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = network(inputs).float().square().mean()
        loss.backward()
        optimizer.step()
    except torch.OutOfMemoryError:
        return False
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def check_memory(config: Config, outputs: int, device: torch.device) -> None:
    """Refuse a step that main memory can't hold, before anything is read: there the system ends what takes too much.

    A GPU says itself when it is full, and training goes on in smaller parts.

    Raises:
        UsageError: With what is needed, what is there, and how many scans would fit.
    """
    at_once, need, available = config.train.scans_at_once, step_need(config, outputs), available_bytes()
    if device.type == "cuda" or need is None or available is None or need.of(at_once) <= available:
        return
    fit = min(need.most(available), at_once - 1)
    advice = (
        f"let at most {fit} pass at once: lower train.batch_size, or raise train.accumulate"
        if fit
        else "not even one fits: lower preprocess.size, take a smaller model.backbone, or set train.recompute: true"
    )
    voxels = " x ".join(map(str, config.preprocess.size))
    raise UsageError(
        f"train.batch_size: {count(at_once, 'scan')} of {voxels} voxels at once with {config.model.backbone}: about "
        f"{need.of(at_once) / 1e9:,.1f} GB of memory are needed, {available / 1e9:.1f} GB are available; {advice}"
    )


def check_input(config: Config, outputs: int) -> None:
    """Refuse inputs that the network can't take, and parts of one scan that its batch norms can't learn from.

    Raises:
        UsageError: With what the network says.
    """
    held = norms_are_held(config.train, pretrained=config.model.weights != "none")
    scans = min(2, config.train.scans_at_once)
    for device in ("meta", "cpu"):  # without numbers first, for that costs nothing; not every network can do so
        with torch.device(device), torch.no_grad():
            network = build_network(config.model, outputs).train()
            if held:
                hold_all_norms(network)
            try:
                network(torch.zeros(scans, config.model.channels, *reversed(config.preprocess.size)))
                return
            except (RuntimeError, AssertionError, ValueError) as error:
                if is_out_of_memory(error):  # that training will say, and how it goes on
                    return
                said = str(error)
    voxels = " x ".join(map(str, config.preprocess.size))
    if "more than 1 value per channel" in said:
        raise UsageError(
            f"train.batch_size: of one scan of {voxels} at a time {config.model.backbone} leaves one value a channel, "
            "from which its batch norms learn nothing; let two pass at once (batch_size, accumulate), or take larger "
            "inputs"
        )
    raise UsageError(f"preprocess.size: {config.model.backbone} can't take inputs of {voxels} ({said[:200]})")
