"""residency as a Conan 2 package: headers and a CMake package. From a checkout: `conan create cmake/packaging/conan -s compiler.cppstd=20`."""
import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
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
    # residency::remote, and https for it; residency::openvino, with the OpenVINO that CMake finds on the system or by OpenVINO_DIR.
    options = {"remote": [True, False], "remote_tls": [True, False], "openvino": [True, False]}
    default_options = {"remote": False, "remote_tls": False, "openvino": False}
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
        if self.options.remote_tls and not self.options.remote:
            raise ConanInvalidConfiguration("remote_tls is for remote")
        if self.settings.get_safe("compiler.cppstd"):
            check_min_cppstd(self, 20)

    def system_requirements(self):
        # Boost 1.81 or newer. It is taken from the system, so that the package can be made without any other.
        Apt(self).install_substitutes(["libboost1.81-dev"], ["libboost-dev"])
        Dnf(self).install(["boost-devel"])
        Brew(self).install(["boost"])
        if self.options.remote or self.options.openvino:
            Apt(self).install_substitutes(["libboost-json1.81-dev"], ["libboost-json-dev"])
        if self.options.remote_tls:
            Apt(self).install(["libssl-dev"])
            Dnf(self).install(["openssl-devel"])
            Brew(self).install(["openssl"])

    def generate(self):
        # The component `spdlog` is in the package if spdlog is on the system where it is made, and `remote` also without its option if
        # Boost.JSON is.
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["RESIDENCY_REMOTE"] = bool(self.options.remote)
        toolchain.cache_variables["RESIDENCY_REMOTE_TLS"] = bool(self.options.remote_tls)
        toolchain.cache_variables["RESIDENCY_OPENVINO"] = bool(self.options.openvino)
        toolchain.cache_variables["RESIDENCY_BUILD_TESTS"] = False
        toolchain.cache_variables["RESIDENCY_BUILD_EXAMPLES"] = False
        toolchain.generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_id(self):
        # Headers are the same for all; the options say what is in the CMake package.
        self.info.settings.clear()

    def package_info(self):
        # The CMake package that residency itself installs, with its components, rather than one that Conan would write.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("share", "cmake", "residency")]
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
