// Asks real engines, which llama_server.sh and ray_serve.sh start. Not run with the tests.
//
//     remote_real_peers vectors REFERENCES URL...       compares with the vectors in a file of references
//     remote_real_peers scores REFERENCES URL...        compares the order of documents
//     remote_real_peers load SECONDS MODEL URL...       64 callers of one text; prints a line of JSON

#include "residency/backends/remote.hpp"
#include "residency/model_manager.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace residency;
using Clock = std::chrono::steady_clock;

namespace {

using Models = ModelManager<RemoteEmbeddingBackend, RemoteRerankerBackend>;

RemoteModelOptions options_for(std::span<char* const> urls) {
    RemoteModelOptions options;
    for (const char* const url : urls) {
        options.endpoints.push_back({.url = url});
    }
    return options;
}

boost::json::value read(const char* file) {
    std::ifstream in(file);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    return boost::json::parse(text);
}

float to_float(const boost::json::value& number) { return number.to_number<float>(); }

// One text a call, and all in one.
int vectors(Models& models, const boost::json::value& references) {
    std::vector<std::string> texts;
    std::vector<const boost::json::array*> wanted;
    for (const auto& each : references.at("cases").as_array()) {
        // What is longer is refused by some engines, and cut by others.
        if (each.at("tokens").to_number<int>() <= 512 && !each.at("text").as_string().empty()) {
            texts.emplace_back(each.at("text").as_string());
            wanted.push_back(&each.at("embedding").as_array());
        }
    }
    const Embeddings together = models.embed("all-minilm-l6-v2", texts);
    double least = 1.0;
    for (std::size_t index = 0; index < texts.size(); ++index) {
        const Embeddings alone = models.embed("all-minilm-l6-v2", {texts[index]});
        for (const std::span<const float> row : {together[index], alone[0]}) {
            double product = 0.0;
            double length = 0.0;
            for (std::size_t at = 0; at < row.size(); ++at) {
                product += static_cast<double>(row[at]) * static_cast<double>(to_float((*wanted[index])[at]));
                length += static_cast<double>(row[at]) * static_cast<double>(row[at]);
            }
            least = (std::min)(least, product / std::sqrt(length));
        }
    }
    std::printf("%zu texts, least cosine %.6f\n", texts.size(), least);
    return least > 0.999 ? 0 : 1;
}

int scores(Models& models, const boost::json::value& references) {
    std::size_t pairs = 0;
    std::size_t turned = 0;
    for (const auto& each : references.at("cases").as_array()) {
        std::vector<std::string> documents;
        for (const auto& document : each.at("documents").as_array()) {
            documents.emplace_back(document.as_string());
        }
        const auto& wanted = each.at("scores").as_array();
        const Ranking ranking = models.rerank("qa-reranker-l6", std::string(each.at("query").as_string()), documents);
        for (std::size_t place = 1; place < ranking.size(); ++place) {
            ++pairs;
            // Scores that half precision does not separate may change places.
            turned += to_float(wanted[ranking[place - 1].index]) + 0.15F < to_float(wanted[ranking[place].index]);
        }
    }
    std::printf("%zu neighbours, %zu in the wrong order\n", pairs, turned);
    return pairs != 0 && turned == 0 ? 0 : 1;
}

class Load {
public:
    Load(Models& models, std::string model, std::chrono::duration<double> time)
        : models_(models),
          model_(std::move(model)),
          until_(begin_ + std::chrono::duration_cast<Clock::duration>(time)) {
        running_ = callers;
        for (std::size_t caller = 0; caller < callers; ++caller) {
            call(caller);
        }
    }

    void wait() const {
        for (std::size_t running = running_; running != 0; running = running_) {
            running_.wait(running);
        }
    }
    void print() const {
        boost::json::object errors;
        for (const auto& [what, count] : errors_) {
            errors[what] = count;
        }
        const auto seconds = [&](Clock::time_point time) {
            return std::chrono::duration<double>(time - begin_).count();
        };
        std::cout << boost::json::serialize(boost::json::object{{"seconds", seconds(Clock::now())},
                                                                {"answered", answered_},
                                                                {"failed", failed_},
                                                                {"first_failure", seconds(first_failure_)},
                                                                {"last_failure", seconds(last_failure_)},
                                                                {"errors", errors}})
                  << '\n';
    }

private:
    static constexpr std::size_t callers = 64;

    // Handlers of a manager's own thread, one after the other.
    void call(std::size_t caller) {
        const std::string text = "what is known of the flow past a wing at " + std::to_string(caller) + " degrees";
        models_.async_embed(model_, {text}, {}, [this, caller](const std::exception_ptr& thrown, const Embeddings&) {
            const Clock::time_point now = Clock::now();
            if (!thrown) {
                ++answered_;
            } else {
                first_failure_ = failed_ == 0 ? now : first_failure_;
                last_failure_ = now;
                ++failed_;
                try {
                    std::rethrow_exception(thrown);
                } catch (const Error& error) {
                    ++errors_[std::string(error.what()).substr(0, 300)];
                }
            }
            if (now < until_) {
                call(caller);
            } else if (--running_ == 0) {
                running_.notify_all();
            }
        });
    }

    Models& models_;
    std::string model_;
    Clock::time_point begin_ = Clock::now();
    Clock::time_point until_;
    std::size_t answered_ = 0;
    std::size_t failed_ = 0;
    Clock::time_point first_failure_ = begin_;
    Clock::time_point last_failure_ = begin_;
    std::map<std::string, std::size_t> errors_{};
    std::atomic<std::size_t> running_{0};
};

}  // namespace

int main(int count, char** arguments) {
    const std::span<char* const> all(arguments, static_cast<std::size_t>(count));
    const std::string_view what = all.size() > 3 ? all[1] : "";
    try {
        if (what == "vectors" || what == "scores") {
            const RemoteModelOptions model = options_for(all.subspan(3));
            Models models(RemoteEmbeddingBackend({.model = model}), RemoteRerankerBackend({.model = model}), {});
            return what == "vectors" ? vectors(models, read(all[2])) : scores(models, read(all[2]));
        }
        if (what == "load" && all.size() > 4) {
            const RemoteModelOptions model = options_for(all.subspan(4));
            Models models(RemoteEmbeddingBackend({.model = model}), RemoteRerankerBackend({.model = model}), {});
            models.embedding().ensure_loaded(std::string(all[3]));
            Load load(models, all[3], std::chrono::duration<double>(std::atof(all[2])));
            load.wait();
            models.shutdown();
            load.print();
            return 0;
        }
    } catch (const std::exception& error) {
        std::cerr << "remote_real_peers: " << error.what() << '\n';
        return 1;
    }
    std::cerr << "Usage: remote_real_peers vectors|scores REFERENCES URL... or load SECONDS MODEL URL...\n";
    return 2;
}
