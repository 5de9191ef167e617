# The component openvino: residency::openvino.

include("${CMAKE_CURRENT_LIST_DIR}/residency-json-config.cmake")
find_package(OpenVINO QUIET COMPONENTS Runtime)
if(residency_json_FOUND AND TARGET openvino::runtime)
    include("${CMAKE_CURRENT_LIST_DIR}/residency-openvino-targets.cmake")
    # Not part of the export: see cmake/openvino.cmake of the sources.
    set_property(TARGET residency::openvino APPEND PROPERTY INTERFACE_LINK_LIBRARIES openvino::runtime)
    set(residency_openvino_FOUND TRUE)
else()
    set(residency_openvino_FOUND FALSE)
endif()
