# The package residency: residency::residency, and residency::<component> for each component asked for.

# No policies are pushed here: find_package has its own, and find_dependency may return in between.
cmake_policy(VERSION 3.25...3.31)

include(CMakeFindDependencyMacro)
set(Boost_NO_WARN_NEW_VERSIONS ON)
find_dependency(Boost 1.81)
find_dependency(Threads)
include("${CMAKE_CURRENT_LIST_DIR}/residency-targets.cmake")

foreach(component IN LISTS residency_FIND_COMPONENTS)
    if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/residency-${component}-config.cmake")
        # Sets residency_<component>_FOUND: a component that is only wished for must not fail the package.
        include("${CMAKE_CURRENT_LIST_DIR}/residency-${component}-config.cmake")
    else()
        set(residency_${component}_FOUND FALSE)
    endif()
    if(NOT residency_${component}_FOUND AND residency_FIND_REQUIRED_${component})
        set(residency_FOUND FALSE)
        set(residency_NOT_FOUND_MESSAGE "the component `${component}` is not part of this installation, or a library that it needs is missing")
    endif()
endforeach()
