"""Builds and runs a program that takes residency from the package."""
import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout


class ResidencyTest(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeDeps"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        # Nothing is written beside the sources.
        toolchain.user_presets_path = False
        toolchain.cache_variables["WITH_REMOTE"] = bool(self.dependencies["residency"].options.remote)
        toolchain.cache_variables["WITH_OPENVINO"] = bool(self.dependencies["residency"].options.openvino)
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self):
        if can_run(self):
            self.run(os.path.join(self.cpp.build.bindir, "first_program"), env="conanrun")
            for part in ("remote", "openvino"):
                if self.dependencies["residency"].options.get_safe(part):
                    self.run(os.path.join(self.cpp.build.bindir, f"{part}_program"), env="conanrun")
