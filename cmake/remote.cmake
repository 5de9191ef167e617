# residency::remote: models that answer over HTTP. residency::json is there.

residency_add_leaf(remote ${residency_remote_headers})
target_link_libraries(residency_remote INTERFACE residency_json)
if(TARGET Boost::beast)
    # Boost from its sources: Boost::headers does not bring it.
    target_link_libraries(residency_remote INTERFACE "$<BUILD_INTERFACE:Boost::beast>")
endif()
if(RESIDENCY_REMOTE_TLS)
    find_package(OpenSSL REQUIRED)
    target_link_libraries(residency_remote INTERFACE OpenSSL::SSL OpenSSL::Crypto)
    target_compile_definitions(residency_remote INTERFACE RESIDENCY_REMOTE_TLS)
endif()
