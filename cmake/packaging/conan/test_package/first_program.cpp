#include <residency/residency.hpp>

#include <iostream>

int main() {
    residency::ModelSlot<residency::LexicalEmbeddingBackend> slot{{}};
    const residency::Generation generation = slot.ensure_loaded("lexical");
    std::cout << "residency " << RESIDENCY_VERSION << " loaded generation " << generation << '\n';
    return slot.try_acquire("lexical") ? 0 : 1;
}
