// A small program of a consumer: a manager of real models, asked for one that is not there.

#include <residency/backends/openvino.hpp>
#include <residency/residency.hpp>

#include <iostream>

int main() {
    residency::ModelManager<residency::OpenVinoEmbeddingBackend, residency::OpenVinoRerankerBackend> models(
        residency::OpenVinoEmbeddingBackend({.model = {.folders = "no such folder"}}),
        residency::OpenVinoRerankerBackend({.model = {.folders = "no such folder"}}));
    // OpenVINO is linked: it says which it is.
    std::cout << ov::get_openvino_version() << '\n';
    try {
        (void)models.embed({"all-minilm-l6-v2", "f16"}, {"text"});
    } catch (const residency::Error& error) {
        std::cout << error.what() << '\n';
        return error.code() == residency::errc::unknown_model ? 0 : 1;
    }
    return 1;
}
