"""What holds for every test: the CPU, no hub, and shapes and types of every annotated function checked as it runs."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from hypothesis import settings
from jaxtyping import install_import_hook

# Wrong shapes go on in silence (a broadcast is not an error), so every call is checked against its signature.
install_import_hook(["codegemma.model", "codegemma.train", "codegemma.engine"], "beartype.beartype")

# A machine that is busy with something else is no defect of the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")
