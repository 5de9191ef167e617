"""residency as a Conan 2 package: headers and a CMake package. From a checkout: `conan create cmake/packaging/conan -s compiler.cppstd=20`."""
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load
from conan.tools.system.package_manager import Apt, Brew, Dnf

required_conan_version = ">=2.0"


class Residency(ConanFile):
    name = "residency"
    package_type = "header-library"
    license = "BSL-1.0"
    description = "Keeps embedding and reranking models resident for exactly as long as they are needed"
    topics = ("embeddings", "reranking", "model-serving", "asio", "header-only")
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    @property
    def _checkout(self):
        return os.path.join(self.recipe_folder, "..", "..", "..")

    def set_version(self):
        header = load(self, os.path.join(self._checkout, "include", "residency", "version.hpp"))
        parts = [re.search(rf"#define RESIDENCY_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH")]
        self.version = ".".join(parts)

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "include/*", "cmake/*.cmake", "cmake/*.cpp"):
            copy(self, pattern, self._checkout, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def validate(self):
        if self.settings.get_safe("compiler.cppstd"):
            check_min_cppstd(self, 20)

    def system_requirements(self):
        # Boost 1.81 or newer. It is taken from the system, so that the package can be made without any other.
        Apt(self).install_substitutes(["libboost1.81-dev"], ["libboost-dev"])
        Dnf(self).install(["boost-devel"])
        Brew(self).install(["boost"])

    def generate(self):
        # The components `spdlog` and `remote` are in the package if spdlog and Boost.JSON are on the system where it is made.
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["RESIDENCY_BUILD_TESTS"] = False
        toolchain.cache_variables["RESIDENCY_BUILD_EXAMPLES"] = False
        toolchain.generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_id(self):
        self.info.clear()

    def package_info(self):
        # The CMake package that residency itself installs, with its components, rather than one that Conan would write.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("share", "cmake", "residency")]
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
