# The library's targets: residency::residency, and one for each leaf that needs a library of its own.

find_package(Threads REQUIRED)
residency_find_boost(residency_boost)

set(residency_include "${PROJECT_SOURCE_DIR}/include")
set(residency_glob "")
if(PROJECT_IS_TOP_LEVEL)
    # Who works on residency adds headers; who uses it does not.
    set(residency_glob CONFIGURE_DEPENDS)
endif()
file(GLOB_RECURSE residency_headers ${residency_glob} "${residency_include}/residency/*.hpp")
list(SORT residency_headers)

# The headers of a leaf that needs more than Boost belong to that leaf's own target.
set(residency_spdlog_headers "${residency_headers}")
list(FILTER residency_spdlog_headers INCLUDE REGEX "/residency/observe/spdlog(/|\\.hpp$)")
set(residency_llama_cpp_headers "${residency_headers}")
list(FILTER residency_llama_cpp_headers INCLUDE REGEX "/residency/backends/llama_cpp(/|\\.hpp$)")
set(residency_json_headers "${residency_headers}")
list(FILTER residency_json_headers INCLUDE REGEX "/residency/backends/json\\.hpp$")
set(residency_remote_headers "${residency_headers}")
list(FILTER residency_remote_headers INCLUDE REGEX "/residency/backends/remote(/|\\.hpp$)")
set(residency_openvino_headers "${residency_headers}")
list(FILTER residency_openvino_headers INCLUDE REGEX "/residency/backends/openvino(/|\\.hpp$)")
list(
    REMOVE_ITEM residency_headers ${residency_spdlog_headers} ${residency_llama_cpp_headers} ${residency_openvino_headers}
    ${residency_json_headers} ${residency_remote_headers}
)

# Makes the interface library residency_<name>, known to others as residency::<export_name>, of these headers.
function(residency_add_interface target export_name)
    add_library(${target} INTERFACE)
    add_library(residency::${export_name} ALIAS ${target})
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${export_name} VERIFY_INTERFACE_HEADER_SETS ${PROJECT_IS_TOP_LEVEL})
    if(NOT PROJECT_IS_TOP_LEVEL)
        # A consumer's warnings are about its own code, as they are with an installed package.
        set_target_properties(${target} PROPERTIES SYSTEM ON)
    endif()
    target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS "${residency_include}" FILES ${ARGN})
endfunction()

residency_add_interface(residency residency ${residency_headers})
target_compile_features(residency INTERFACE cxx_std_20)
# Sources of Boost in the same build are nothing that an export could name: the package finds Boost anew.
target_link_libraries(
    residency INTERFACE "$<BUILD_INTERFACE:${residency_boost}>" "$<INSTALL_INTERFACE:Boost::headers>" Threads::Threads
)

# Makes residency::<name> for a leaf: its headers on top of residency. The leaf's own libraries are linked by the caller,
# as `$<BUILD_INTERFACE:target>` and `$<INSTALL_INTERFACE:target>`; cmake/residency-<name>-config.cmake finds them anew in an installed package,
# where the leaf is the component <name>.
function(residency_add_leaf name)
    residency_add_interface(residency_${name} ${name} ${ARGN})
    target_link_libraries(residency_${name} INTERFACE residency)
    set_property(GLOBAL APPEND PROPERTY residency_leaves ${name})
endfunction()

if(residency_spdlog_headers)
    residency_find_spdlog()
    if(TARGET spdlog::spdlog)
        residency_add_leaf(spdlog ${residency_spdlog_headers})
        target_link_libraries(
            residency_spdlog INTERFACE "$<BUILD_INTERFACE:spdlog::spdlog>" "$<INSTALL_INTERFACE:spdlog::spdlog>"
        )
    endif()
endif()

if(RESIDENCY_LLAMA_CPP)
    include("${CMAKE_CURRENT_LIST_DIR}/llama_cpp.cmake")
endif()

residency_find_boost_json()
if(TARGET Boost::json)
    # What the leaves below read JSON with.
    residency_add_leaf(json ${residency_json_headers})
    target_link_libraries(residency_json INTERFACE "$<BUILD_INTERFACE:Boost::json>" "$<INSTALL_INTERFACE:Boost::json>")
    include("${CMAKE_CURRENT_LIST_DIR}/remote.cmake")
endif()
if(RESIDENCY_OPENVINO)
    include("${CMAKE_CURRENT_LIST_DIR}/openvino.cmake")
endif()
