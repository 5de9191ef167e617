# Runs the vcpkg port's portfile with functions that stand for vcpkg's own, and looks at what it would have packaged. That is all that can be
# seen without vcpkg: that its JSON is sound, that its versions are residency's, and that configuring and installing as it says gives a package.
#
#   cmake -D SOURCE=... -D WORK=... -D VERSION=... -D GENERATOR=... -D COMPILER=... -P vcpkg.cmake

cmake_minimum_required(VERSION 3.25)

set(port "${SOURCE}/cmake/packaging/vcpkg/residency")
file(REMOVE_RECURSE "${WORK}")

# -- The manifest

file(READ "${port}/vcpkg.json" manifest)
string(JSON name GET "${manifest}" name)
string(JSON version GET "${manifest}" version)
string(JSON license GET "${manifest}" license)
if(NOT "${name} ${version} ${license}" STREQUAL "residency ${VERSION} BSL-1.0")
    message(FATAL_ERROR "vcpkg.json says `${name} ${version} ${license}`, it should be `residency ${VERSION} BSL-1.0`")
endif()
set(declared_features "")
string(JSON count LENGTH "${manifest}" features)
math(EXPR last "${count} - 1")
foreach(index RANGE ${last})
    string(JSON feature MEMBER "${manifest}" features ${index})
    string(JSON about GET "${manifest}" features "${feature}" description)
    list(APPEND declared_features "${feature}")
endforeach()

# -- What stands for vcpkg

set(CURRENT_PORT_DIR "${port}")
set(CURRENT_PACKAGES_DIR "${WORK}/packages/residency")
set(PORT residency)
set(called "")

function(run)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(code)
        message(FATAL_ERROR "${ARGN}\n${output}")
    endif()
endfunction()

macro(note call)
    list(APPEND called "${call}")
    set(called "${called}" PARENT_SCOPE)
endmacro()

# No feature is asked for: each is an option that is off.
function(vcpkg_check_features)
    note(vcpkg_check_features)
    cmake_parse_arguments(arg "" "OUT_FEATURE_OPTIONS" "FEATURES" ${ARGN})
    set(options "")
    list(LENGTH arg_FEATURES length)
    math(EXPR end "${length} - 1")
    foreach(index RANGE 0 ${end} 2)
        list(GET arg_FEATURES ${index} feature)
        if(NOT feature IN_LIST declared_features)
            message(FATAL_ERROR "the portfile knows a feature that vcpkg.json does not declare: ${feature}")
        endif()
        math(EXPR next "${index} + 1")
        list(GET arg_FEATURES ${next} option)
        list(APPEND options "-D${option}=OFF")
    endforeach()
    set(${arg_OUT_FEATURE_OPTIONS} "${options}" PARENT_SCOPE)
endfunction()

function(vcpkg_cmake_configure)
    note(vcpkg_cmake_configure)
    cmake_parse_arguments(arg "" "SOURCE_PATH" "OPTIONS" ${ARGN})
    run("${CMAKE_COMMAND}" -S "${arg_SOURCE_PATH}" -B "${WORK}/build" -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${COMPILER}"
        -DCMAKE_BUILD_TYPE=Release "-DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}" ${arg_OPTIONS})
endfunction()

function(vcpkg_cmake_install)
    note(vcpkg_cmake_install)
    run("${CMAKE_COMMAND}" --install "${WORK}/build")
endfunction()

# vcpkg's own moves the package to share/<name>.
function(vcpkg_cmake_config_fixup)
    note(vcpkg_cmake_config_fixup)
    cmake_parse_arguments(arg "" "PACKAGE_NAME;CONFIG_PATH" "" ${ARGN})
    if(NOT EXISTS "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}/${arg_PACKAGE_NAME}-config.cmake")
        message(FATAL_ERROR "there is no ${arg_CONFIG_PATH}/${arg_PACKAGE_NAME}-config.cmake")
    endif()
endfunction()

function(vcpkg_install_copyright)
    note(vcpkg_install_copyright)
    cmake_parse_arguments(arg "" "" "FILE_LIST" ${ARGN})
    file(COPY_FILE "${arg_FILE_LIST}" "${CURRENT_PACKAGES_DIR}/share/${PORT}-copyright")
endfunction()

include("${port}/portfile.cmake")

# -- What came of it

foreach(call IN ITEMS vcpkg_cmake_configure vcpkg_cmake_install vcpkg_cmake_config_fixup vcpkg_install_copyright)
    if(NOT call IN_LIST called)
        message(FATAL_ERROR "the portfile does not call ${call}")
    endif()
endforeach()
foreach(file IN ITEMS include/residency/residency.hpp share/cmake/residency/residency-config-version.cmake share/residency-copyright)
    if(NOT EXISTS "${CURRENT_PACKAGES_DIR}/${file}")
        message(FATAL_ERROR "the package lacks ${file}")
    endif()
endforeach()
if(NOT VCPKG_BUILD_TYPE STREQUAL "release" OR EXISTS "${CURRENT_PACKAGES_DIR}/share/doc" OR EXISTS "${CURRENT_PACKAGES_DIR}/lib")
    message(FATAL_ERROR "what the port packages is not what vcpkg wants of headers")
endif()
