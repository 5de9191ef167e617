# The component remote: residency::remote.

include("${CMAKE_CURRENT_LIST_DIR}/residency-json-config.cmake")
set(residency_remote_FOUND FALSE)
if(residency_json_FOUND)
    file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/residency-remote-targets.cmake" residency_remote_tls REGEX "RESIDENCY_REMOTE_TLS")
    if(residency_remote_tls)
        find_package(OpenSSL QUIET)
    endif()
    if(NOT residency_remote_tls OR OpenSSL_FOUND)
        include("${CMAKE_CURRENT_LIST_DIR}/residency-remote-targets.cmake")
        set(residency_remote_FOUND TRUE)
    endif()
endif()
