// The main job: search over a folder, as a user would run it.
//
//     search "unload an idle model" include
//
// Several threads read and embed the folder's files through one ModelManager; the nearest passages are reranked, the
// best printed. Both models are loaded on first use, shared by all threads, and unloaded when they have been idle for
// their keep-alive. What has to do with residency is in search/job.hpp; the rest of search/ is what any such program
// needs.

#include "search/arguments.hpp"
#include "search/folder.hpp"
#include "search/interrupt.hpp"
#include "search/job.hpp"

#include <residency/backends/lexical.hpp>
#include <residency/error.hpp>

#include <exception>
#include <iostream>
#include <optional>
#include <utility>

namespace {

/// Which backends the models come from: the one place that knows.
int run(const search::Arguments& arguments, const search::Interrupt& interrupt) {
    search::Folder folder = search::list(arguments.folder, interrupt.token());
    return search::Job(arguments, residency::LexicalEmbeddingBackend(), residency::LexicalRerankerBackend(), interrupt,
                       std::move(folder))
        .run();
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::optional<search::Arguments> arguments = search::parse(argc, argv);
        if (!arguments) {
            return search::found;
        }
        const search::Interrupt interrupt;
        return run(*arguments, interrupt);
    } catch (const search::UsageError& error) {
        std::cerr << "search: " << error.what() << '\n';
        return search::bad_usage;
    } catch (const residency::Error& error) {
        std::cerr << "search: " << error.what() << '\n';
        return error.code() == residency::condition::caller ? search::bad_usage : search::failed;
    } catch (const std::exception& error) {
        std::cerr << "search: " << error.what() << '\n';
        return search::failed;
    }
}
