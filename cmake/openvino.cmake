# residency::openvino: models from OpenVINO and ONNX folders, computed by OpenVINO. OpenVINO is an installed package: that of
# PyPI has one, too, and OpenVINO_DIR then names its folder `openvino/cmake`. residency::json is there.

if(NOT TARGET openvino::runtime)
    find_package(OpenVINO QUIET COMPONENTS Runtime)
endif()
if(NOT TARGET openvino::runtime)
    message(FATAL_ERROR "residency: no OpenVINO is installed; OpenVINO_DIR names the folder of its OpenVINOConfig.cmake")
endif()

residency_add_leaf(openvino ${residency_openvino_headers})
target_link_libraries(residency_openvino INTERFACE residency_json "$<BUILD_INTERFACE:openvino::runtime>;${CMAKE_DL_LIBS}")
