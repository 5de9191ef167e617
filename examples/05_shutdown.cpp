// New here: shutting down with a deadline. New work is refused, what runs may end, and past the deadline the report
// names what is left.
#include <residency/residency.hpp>

#include <iostream>

int main() {
    using namespace std::chrono_literals;
    residency::ModelManager<residency::LexicalEmbeddingBackend, residency::LexicalRerankerBackend> models;
    auto lease = models.embedding().acquire("lexical");

    //! [shutdown]
    // A lease is still held, so this cannot end cleanly in time. Nothing is freed under the lease.
    const residency::ShutdownReport first = models.shutdown(20ms);
    std::cout << "first: " << first << '\n';

    try {
        const auto late = models.embed("lexical", {"too late"});
    } catch (const residency::Error& error) {
        std::cout << error.what() << '\n';
    }

    // Shutting down again waits for the rest.
    lease.release();
    const residency::ShutdownReport second = models.shutdown();
    std::cout << "second: " << second << '\n';
    //! [shutdown]
    return !first.clean() && second.clean() ? 0 : 1;
}
