# residency::remote: models that answer over HTTP. Boost::json is there.

residency_add_leaf(remote ${residency_remote_headers})
set(residency_remote_boost Boost::json)
if(TARGET Boost::beast)
    # Boost from its sources: Boost::headers does not bring it.
    list(APPEND residency_remote_boost Boost::beast)
endif()
target_link_libraries(
    residency_remote INTERFACE "$<BUILD_INTERFACE:${residency_remote_boost}>" "$<INSTALL_INTERFACE:Boost::json>"
)
if(RESIDENCY_REMOTE_TLS)
    find_package(OpenSSL REQUIRED)
    target_link_libraries(residency_remote INTERFACE OpenSSL::SSL OpenSSL::Crypto)
    target_compile_definitions(residency_remote INTERFACE RESIDENCY_REMOTE_TLS)
endif()
