"""The server that everybody writes: FastAPI and torch in one process. `python server.py JOB PORT`.

Speed does not depend on what the last layer has learnt, so it is left as it was drawn.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from network import DEVICE, build_network, build_transform
from PIL import Image

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
transform = build_transform(job)
network = build_network(job).eval()
app = FastAPI()


@app.get("/readyz")
async def ready() -> dict[str, bool]:
    """Answers once the model is loaded."""
    return {"ready": True}


@app.post("/predict")
async def predict(image: UploadFile) -> dict[str, Any]:
    """The class of a picture."""
    picture = Image.open(io.BytesIO(await image.read())).convert("RGB")
    with torch.no_grad():
        logits = network(transform(picture).unsqueeze(0).to(DEVICE))
    shares = logits.softmax(1)[0].tolist()
    best = max(range(len(shares)), key=shares.__getitem__)
    probabilities = dict(zip(job["classes"], shares, strict=True))
    return {"label": job["classes"][best], "confidence": shares[best], "probabilities": probabilities}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
