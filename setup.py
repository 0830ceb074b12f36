"""What pyproject.toml cannot say: configs/, slurm/ and pretrained/ stand in the wheel as trainer/shipped/."""

from setuptools import find_packages, setup

SHIPPED = ("configs", "slurm", "pretrained")

setup(
    packages=[
        *find_packages(include=["common*", "data_shards*", "models*", "trainer*", "evaluation*"]),
        *(f"trainer.shipped.{name}" for name in SHIPPED),
    ],
    package_dir={f"trainer.shipped.{name}": name for name in SHIPPED},
    package_data={
        "evaluation.factors": ["weights/*"],
        "evaluation.pages": ["templates/*.html"],
        "trainer": ["rates/*.yaml"],
        "trainer.apps.explore": ["page/*"],
        "trainer.distributed": ["deepspeed/*.json"],
        **{f"trainer.shipped.{name}": ["**/*"] for name in SHIPPED},
    },
)
