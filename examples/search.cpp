// The main job: search over a folder, as a user would run it.
//
//     search "unload an idle model" include
//     search --models FOLDER --embedding all-minilm-l6-v2@f16 --reranker qa-reranker-l6@f16 "unload an idle model"
//     search --models table.json --embedding bge-m3 --reranker qa-reranker-l6@f16 "unload an idle model" include
//
// Several threads read and embed the folder's files through one ModelManager; the nearest passages are reranked, the
// best printed. Both models are loaded on first use, shared by all threads, and unloaded when they have been idle for
// their keep-alive. Which engine computes a model, here or elsewhere, is configuration. What has to do with residency
// is in search/job.hpp and search/engines.hpp; the rest of search/ is what any such program needs.

#include "search/arguments.hpp"
#include "search/engines.hpp"
#include "search/folder.hpp"
#include "search/interrupt.hpp"
#include "search/job.hpp"
#include "search/model_table.hpp"

#include <residency/error.hpp>

#include <exception>
#include <iostream>
#include <optional>
#include <utility>
#include <vector>

namespace {

int run(const search::Arguments& arguments) {
    const search::Interrupt interrupt;
    const std::vector<search::ModelSource> sources = search::read_sources(arguments.models);
    search::Engines engines = search::make_engines(sources);
    if (!arguments.models.empty()) {
        search::require_models(arguments, sources, engines);
    }
    search::Folder folder = search::list(arguments.folder, interrupt.token());
    return search::Job(arguments, std::move(engines), interrupt, std::move(folder)).run();
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::optional<search::Arguments> arguments = search::parse(argc, argv);
        if (!arguments) {
            return search::found;
        }
        return run(*arguments);
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
