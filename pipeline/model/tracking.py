"""Where a run's numbers go beside its own folder: TensorBoard always, MLflow by one key."""

import os
from importlib.util import find_spec

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from pipeline.config import Config
from pipeline.domain import UsageError

TOLD = ("name", "preprocess", "model", "augment", "train", "evaluate")
"""What MLflow learns of the config: no folders and no values of labels.csv, which may name patients."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Tries, and seconds each, of a server, where the environment does not say; MLflow's own take minutes."""


def loggers(config: Config, name: str) -> list[Logger]:
    """What Lightning writes the numbers of one network to."""
    found: list[Logger] = [TensorBoardLogger(config.out, "tensorboard", name)]
    if config.train.tracking == "mlflow":
        tags = {"mlflow.source.name": "pipeline.train"}
        logger = MLFlowLogger(config.name, name, tracking_uri=_address(config), tags=tags)
        logger.log_hyperparams(config.model_dump(mode="json", include=set(TOLD)))
        found.append(logger)
    return found


def check_tracking(config: Config) -> None:
    """Refuse what could not be tracked, before training.

    Raises:
        UsageError: If MLflow is not installed, or its server does not answer.
    """
    if config.train.tracking != "mlflow":
        return
    if find_spec("mlflow") is None:
        raise UsageError("train.tracking: mlflow is not installed; pip install 'scanline[tracking]', or use none")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        MlflowClient(_address(config)).search_experiments(max_results=1)
    except MlflowException as error:
        raise UsageError(
            f"train.tracking: MLflow can't be used ({error.error_code}); set MLFLOW_TRACKING_URI to a server that "
            "answers, or unset it to write RUN/mlruns"
        ) from None


def _address(config: Config) -> str:
    """MLFLOW_TRACKING_URI, or the folder mlruns of the run."""
    if given := os.environ.get("MLFLOW_TRACKING_URI"):
        return given
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would need the full package
    return (config.out / "mlruns").resolve().as_uri()
