"""The real sae-lens, imported once: it warns of deprecations in the libraries that it uses."""

import os
import warnings

# Read once, when it is imported; none of these tests trains or reports anything.
os.environ["WANDB_MODE"] = "disabled"

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import sae_lens  # noqa: F401
