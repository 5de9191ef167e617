# The component json: residency::json, which the components remote and openvino need.

find_package(Boost 1.81 QUIET COMPONENTS json)
if(TARGET Boost::json)
    include("${CMAKE_CURRENT_LIST_DIR}/residency-json-targets.cmake")
    set(residency_json_FOUND TRUE)
else()
    set(residency_json_FOUND FALSE)
endif()
