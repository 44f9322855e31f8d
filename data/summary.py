"""What the demo left behind: `python -m data.summary RUNS SCANS`, the end of `make demo`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import read_json
from pipeline.results.words import headline


def main(argv: Sequence[str] | None = None) -> int:
    """Print the test AUROC of a demo with its interval, where its results lie, and how to look at them."""
    runs, scans = map(Path, sys.argv[1:] if argv is None else argv)
    run, scores = runs / "run", runs / "scores"
    evaluation = read_json(run / "evaluation.json")
    print("\n" + "\n".join(headline(evaluation["test"], "test")))  # type: ignore[arg-type]
    print(f"report       {run / 'report.html'}")
    print(f"predictions  {scores / 'predictions.csv'}")
    print(f"model        {run / 'model'}")
    python = min(sys.executable, os.path.relpath(sys.executable), key=len)
    print(f"viewer       {python} -m app --model {run / 'model'} --scans {scans} --scores {scores} --run {run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
