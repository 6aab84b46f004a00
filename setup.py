"""What setup.cfg cannot say: where launchers lie in the installed package.

Nothing but `infusion_jax` is importable after `pip install`; its console scripts
(`infusion_jax/commands.py`) find the launchers and configurations there.
"""

import setuptools

_LAUNCH = "infusion_jax._launch"
_PLACES = ("experiments", "configs", "configs.compare", "configs.sweeps")

setuptools.setup(
  packages=[
    *setuptools.find_packages(include=["infusion_jax", "infusion_jax.*"]),
    *(f"{_LAUNCH}.{place}" for place in _PLACES),
  ],
  package_dir={f"{_LAUNCH}.{place}": place.replace(".", "/") for place in _PLACES},
)
