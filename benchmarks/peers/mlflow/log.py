"""Write an MLflow model of the ONNX file that ours serves: `python log.py JOB FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mlflow

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
mlflow.pyfunc.save_model(
    sys.argv[2],
    python_model=str(Path(__file__).with_name("model.py")),
    artifacts={"model": job["model"], "job": sys.argv[1]},
    pip_requirements=str(Path(__file__).with_name("requirements.txt")),
)
