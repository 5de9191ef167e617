#include <residency/backends/remote.hpp>
#include <residency/residency.hpp>

#include <iostream>

// Nothing listens on port 1, and nothing but this machine is asked.
int main() {
    const residency::RemoteModelOptions engine{.endpoints = {{.url = "http://127.0.0.1:1"}}, .retries = 0};
    residency::ModelSlot<residency::RemoteEmbeddingBackend> slot{residency::RemoteEmbeddingBackend({.model = engine})};
    try {
        slot.ensure_loaded("far");
    } catch (const residency::Error& error) {
        std::cout << error.what() << '\n';
        return error.code() == residency::errc::load_failed ? 0 : 1;
    }
    return 1;
}
