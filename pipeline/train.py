"""`python -m pipeline.train CONFIG.yaml`: cohort -> fitted, calibrated model folder and predictions of every scan."""

import sys
from collections.abc import Sequence
from pathlib import Path

import tyro
from pydantic import ValidationError

from pipeline.config import Config, ConfigError, load_config, problems, switches
from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, guarded, stdout
from pipeline.domain import UsageError
from pipeline.files import write_json

ABOUT = """Fine-tunes the network of a config on a cohort and writes a run folder (model, predictions, history).
The demo:  python -m pipeline.train configs/demo.yaml"""
USAGE = f"""usage: python -m pipeline.train CONFIG.yaml [--section.key value ...] [--resume]

{ABOUT}
Options:   python -m pipeline.train --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        stdout.print(USAGE, markup=False)
        return WRONG_USE
    return guarded(lambda: _run(words))


def parse(words: Sequence[str]) -> tuple[Config, bool]:
    """The config of a command line (file, then overrides) and whether to resume."""
    rest = [w for w in words if w != "--resume"]
    if not rest or rest[0].startswith("-"):
        if rest and rest[0] not in ("-h", "--help"):
            raise UsageError("the first argument must be a config file, for example configs/demo.yaml")
        tyro.cli(Config, args=["--help"], prog="python -m pipeline.train CONFIG.yaml [--resume]", description=ABOUT)
    base = load_config(Path(rest[0]))
    try:
        config = tyro.cli(Config, default=base, args=_flags(rest[1:]), prog=f"python -m pipeline.train {rest[0]}")
        return Config.model_validate(config.model_dump()), "--resume" in words
    except ValidationError as error:
        raise ConfigError(f"{rest[0]} with these options is not a valid config:\n{problems(error)}") from None


def _flags(words: Sequence[str]) -> list[str]:
    """The words with `--model.stem_pool false` as tyro has it, `--model.no-stem_pool`; any other word as it is."""
    known, flags = switches(), list[str]()
    for word in words:
        key = flags[-1].removeprefix("--").replace("-", "_") if flags else ""
        if key in known and word.lower() in ("true", "false"):
            section, _, name = flags.pop().rpartition(".")
            flags.append(f"{section}.{'no-' if word.lower() == 'false' else ''}{name}")
        else:
            flags.append(word)
    return flags


def _run(words: Sequence[str]) -> int:
    config, resume = parse(words)
    # Imported here, for the processes that read scans import this module again and need no torch.
    from pipeline.audit.shortcuts import probe_run
    from pipeline.console import count
    from pipeline.explanation.similar import write_index
    from pipeline.model.run import train

    trained = train(config, resume)
    if trained is None:
        return DONE
    write_json(config.out / "shortcuts.json", probe_run(trained, config.evaluate))
    write_index(config.out, trained)
    refused = int((trained.table["status"] == "rejected").sum())
    if refused:
        told = f"{count(refused, 'scan')} refused; see status, reason and detail in {config.out / 'predictions.csv'}"
        stdout.print(told, markup=False)
    stdout.print(f"model folder  {config.out / 'model'}\npredictions   {config.out / 'predictions.csv'}", markup=False)
    stdout.print(f"next: python -m pipeline.evaluate {config.out}", markup=False)
    return WITH_REJECTIONS if refused else DONE


if __name__ == "__main__":
    sys.exit(main())
