"""What pyproject.toml cannot say: the C proxy is optional, and an editable install has data files.

Where no compiler is found the build goes on without the C proxy and the pure-Python twin runs in its place
(`isthmus doctor` tells which).
"""

from setuptools import Distribution, Extension, setup


class WithData(Distribution):
    """A distribution whose editable wheel has its data files, here the `.pth` file of `isthmus.compat`."""

    # setuptools asks `has_data` there, and has it by another name only; it would leave them out.
    has_data = Distribution.has_data_files


setup(
    distclass=WithData,
    ext_modules=[
        Extension(
            "isthmus.proxy._proxy",
            ["src/isthmus/proxy/_proxy.c"],
            extra_compile_args=["-O3", "-std=c11"],
            optional=True,
        )
    ],
)
