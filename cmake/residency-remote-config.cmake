# The component remote: residency::remote.

find_package(Boost 1.81 QUIET COMPONENTS json)
set(residency_remote_FOUND FALSE)
if(TARGET Boost::json)
    file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/residency-remote-targets.cmake" residency_remote_tls REGEX "RESIDENCY_REMOTE_TLS")
    if(residency_remote_tls)
        find_package(OpenSSL QUIET)
    endif()
    if(NOT residency_remote_tls OR OpenSSL_FOUND)
        include("${CMAKE_CURRENT_LIST_DIR}/residency-remote-targets.cmake")
        set(residency_remote_FOUND TRUE)
    endif()
endif()
