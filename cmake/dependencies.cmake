# Where the libraries that residency needs come from. Each is taken from the first of: a target that is already there,
# an installed package, its sources.

include(FetchContent)

# Sets `result` to the targets that bring Boost.Asio's and Boost.System's headers.
function(residency_find_boost result)
    if(NOT TARGET Boost::headers AND NOT TARGET Boost::asio)
        set(Boost_NO_WARN_NEW_VERSIONS ON)
        find_package(Boost 1.81 QUIET)
    endif()
    if(NOT TARGET Boost::headers AND NOT TARGET Boost::asio)
        message(STATUS "residency: no Boost 1.81 or newer is installed, taking Boost 1.89's sources")
        set(BOOST_INCLUDE_LIBRARIES asio system)
        if(RESIDENCY_REMOTE OR RESIDENCY_OPENVINO)
            list(APPEND BOOST_INCLUDE_LIBRARIES beast json)
        endif()
        set(BOOST_SKIP_INSTALL_RULES ON)
        FetchContent_Declare(
            Boost
            URL https://github.com/boostorg/boost/releases/download/boost-1.89.0/boost-1.89.0-cmake.tar.xz
            URL_HASH SHA256=67acec02d0d118b5de9eb441f5fb707b3a1cdd884be00ca24b9a73c995511f74
            DOWNLOAD_EXTRACT_TIMESTAMP ON
            SYSTEM
        )
        FetchContent_MakeAvailable(Boost)
        # Only headers are wanted: what of Boost is compiled stays out of the default build.
        FetchContent_GetProperties(Boost SOURCE_DIR boost_source)
        set_property(DIRECTORY "${boost_source}" PROPERTY EXCLUDE_FROM_ALL ON)
    endif()

    # A Boost that was configured from its sources has one target per library, and its Boost::headers brings none of them.
    # asio_core (Boost 1.89 and newer) is Asio without the libraries that have to be compiled.
    set(boost Boost::headers)
    if(TARGET Boost::asio_core)
        set(boost Boost::asio_core)
    elseif(TARGET Boost::asio)
        set(boost Boost::asio)
    else()
        get_target_property(imported Boost::headers IMPORTED)
        if(NOT imported)
            message(FATAL_ERROR "residency needs Boost.Asio and Boost.System: add `asio` and `system` to BOOST_INCLUDE_LIBRARIES")
        endif()
    endif()
    if(TARGET Boost::system AND NOT boost STREQUAL "Boost::headers")
        list(APPEND boost Boost::system)
    endif()
    set(${result} "${boost}" PARENT_SCOPE)
endfunction()

# Makes spdlog::spdlog if it can be had without asking anything of a project that did not ask for it: for others it is
# looked for only with RESIDENCY_SPDLOG, and downloaded only then.
function(residency_find_spdlog)
    if(NOT TARGET spdlog::spdlog AND (RESIDENCY_SPDLOG OR PROJECT_IS_TOP_LEVEL))
        find_package(spdlog 1.10 QUIET)
    endif()
    if(NOT TARGET spdlog::spdlog AND RESIDENCY_SPDLOG)
        message(STATUS "residency: no spdlog 1.10 or newer is installed, taking its sources")
        FetchContent_Declare(
            spdlog
            GIT_REPOSITORY https://github.com/gabime/spdlog.git
            GIT_TAG v1.15.3
            GIT_SHALLOW ON
            SYSTEM
        )
        FetchContent_MakeAvailable(spdlog)
    endif()
endfunction()

# Makes Boost::json if it can be had, with Boost.Beast's headers beside it: for a project that asked neither for
# residency::remote nor for residency::openvino it is not looked for. It is compiled, unlike the rest of Boost that
# residency uses.
function(residency_find_boost_json)
    if(NOT TARGET Boost::json AND (RESIDENCY_REMOTE OR RESIDENCY_OPENVINO OR PROJECT_IS_TOP_LEVEL))
        set(Boost_NO_WARN_NEW_VERSIONS ON)
        find_package(Boost 1.81 QUIET COMPONENTS json)
    endif()
    if(NOT TARGET Boost::json AND (RESIDENCY_REMOTE OR RESIDENCY_OPENVINO))
        message(
            FATAL_ERROR
            "residency::remote and residency::openvino need Boost.JSON, which is compiled: install it (Debian: libboost-json1.81-dev), or add "
            "`json` and `beast` to BOOST_INCLUDE_LIBRARIES where Boost is built from its sources"
        )
    endif()
endfunction()
