# `cmake --install`: the headers and a package that can be moved as a whole.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(residency_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/residency")

install(TARGETS residency EXPORT residency-targets FILE_SET HEADERS)
install(EXPORT residency-targets NAMESPACE residency:: DESTINATION "${residency_package_dir}")

get_property(residency_leaves GLOBAL PROPERTY residency_leaves)
foreach(leaf IN LISTS residency_leaves)
    install(TARGETS residency_${leaf} EXPORT residency-${leaf}-targets FILE_SET HEADERS)
    install(EXPORT residency-${leaf}-targets NAMESPACE residency:: DESTINATION "${residency_package_dir}")
    install(FILES "${CMAKE_CURRENT_LIST_DIR}/residency-${leaf}-config.cmake" DESTINATION "${residency_package_dir}")
endforeach()

write_basic_package_version_file(
    "${PROJECT_BINARY_DIR}/residency-config-version.cmake"
    # Before 1.0 a minor version may break.
    COMPATIBILITY SameMinorVersion
    ARCH_INDEPENDENT
)
install(
    FILES "${CMAKE_CURRENT_LIST_DIR}/residency-config.cmake" "${PROJECT_BINARY_DIR}/residency-config-version.cmake"
    DESTINATION "${residency_package_dir}"
)
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
