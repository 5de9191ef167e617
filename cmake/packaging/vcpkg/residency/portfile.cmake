# An overlay port that takes residency from the checkout that it is in: `vcpkg install residency --overlay-ports=cmake/packaging/vcpkg`.

get_filename_component(SOURCE_PATH "${CURRENT_PORT_DIR}/../../../.." ABSOLUTE)

# Headers only: nothing differs between debug and release.
set(VCPKG_BUILD_TYPE release)

vcpkg_check_features(
    OUT_FEATURE_OPTIONS features
    FEATURES
        spdlog RESIDENCY_SPDLOG
        llama-cpp RESIDENCY_LLAMA_CPP
        openvino RESIDENCY_OPENVINO
        remote RESIDENCY_REMOTE
        remote-tls RESIDENCY_REMOTE_TLS
)

vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        -DRESIDENCY_BUILD_TESTS=OFF
        -DRESIDENCY_BUILD_EXAMPLES=OFF
        ${features}
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME residency CONFIG_PATH share/cmake/residency)

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/doc")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
