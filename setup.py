"""The one thing pyproject.toml cannot say: the C proxy is optional.

Where no compiler is found the build goes on without it and the pure-Python twin runs in its place
(`isthmus doctor` tells which).
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "isthmus.proxy._proxy",
            ["src/isthmus/proxy/_proxy.c"],
            extra_compile_args=["-O3", "-std=c11"],
            optional=True,
        )
    ]
)
