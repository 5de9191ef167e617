#include <residency/backends/openvino.hpp>
#include <residency/residency.hpp>

#include <iostream>

// There is no such model, and OpenVINO is linked.
int main() {
    residency::ModelSlot<residency::OpenVinoEmbeddingBackend> slot{
        residency::OpenVinoEmbeddingBackend({.model = {.folders = "no such folder"}})};
    std::cout << ov::get_openvino_version() << '\n';
    try {
        slot.ensure_loaded("nonesuch");
    } catch (const residency::Error& error) {
        std::cout << error.what() << '\n';
        return error.code() == residency::errc::unknown_model ? 0 : 1;
    }
    return 1;
}
