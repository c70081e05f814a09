"""Generates the stubs of the contract while the package is built."""

from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc
from setuptools import setup
from setuptools.command.build_py import build_py

# What `proton-gateway schema protos --out proto` writes.
PROTO = Path(__file__).resolve().parent / "proto"


class BuildWithStubs(build_py):
    def run(self):
        super().run()
        arguments = [
            "protoc",
            f"-I{PROTO}",
            # For google/protobuf, whose stubs are in a package already, as are those of google/rpc.
            f"-I{files('grpc_tools') / '_proto'}",
            f"--python_out={self.build_lib}",
            f"--pyi_out={self.build_lib}",
            f"--grpc_python_out={self.build_lib}",
            *(str(path) for path in sorted(PROTO.glob("proton/**/*.proto"))),
        ]
        if protoc.main(arguments) != 0:
            raise RuntimeError("protoc could not generate the stubs")


setup(cmdclass={"build_py": BuildWithStubs})
