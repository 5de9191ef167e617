#pragma once

#include "residency/backends/remote/answer.hpp"
#include "residency/backends/remote/base64.hpp"
#include "residency/backends/remote/endpoint.hpp"
#include "residency/backends/remote/json.hpp"
#include "residency/backends/remote/options.hpp"
#include "residency/backends/remote/question.hpp"
#include "residency/embed_as.hpp"
#include "residency/error.hpp"
#include "residency/model_key.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace residency::detail::remote {

/// Asks for the vectors of texts.
class EmbedQuestion final : public Question {
public:
    /// What is asked for.
    struct About {
        /// What the endpoints call the model.
        std::string_view model{};
        /// The texts.
        std::span<const std::string> texts{};
        /// What they are.
        EmbedAs as = EmbedAs::as_is;
        /// What comes before each, where the dialect has no other way to say what it is.
        std::string_view prefix{};
        /// How many floats a vector has; zero if that is not known yet.
        std::size_t dimension = 0;
    };

    /// Asks for this; what it refers to outlives it.
    explicit EmbedQuestion(const About& about) noexcept : about_(about) {}
    EmbedQuestion(const EmbedQuestion&) = delete;
    EmbedQuestion& operator=(const EmbedQuestion&) = delete;
    ~EmbedQuestion() override = default;

    [[nodiscard]] Post post(const Endpoint& endpoint) override {
        Post post;
        std::string& body = post.body;
        switch (endpoint.dialect) {
            case RemoteDialect::openai:
                post.path = "/embeddings";
                body = R"({"model":)";
                append_string(body, about_.model);
                asked_decimals_ = refused_ == &endpoint || endpoint.form.load() == VectorForm::decimals;
                body += asked_decimals_ ? R"(,"encoding_format":"float","input":)"
                                        : R"(,"encoding_format":"base64","input":)";
                append_strings(body, about_.texts, about_.prefix);
                break;
            case RemoteDialect::tei:
                post.path = "/embed";
                body = R"({"truncate":false,"inputs":)";
                append_strings(body, about_.texts, about_.prefix);
                break;
            case RemoteDialect::cohere:
                post.path = "/v2/embed";
                body = R"({"model":)";
                append_string(body, about_.model);
                body += R"(,"embedding_types":["float"],"truncate":"NONE","input_type":)";
                body += about_.as == EmbedAs::query ? R"("search_query","texts":)" : R"("search_document","texts":)";
                append_strings(body, about_.texts);
                break;
        }
        body += '}';
        return post;
    }

    void read(Endpoint& endpoint, std::string_view body) override {
        const Json json(body);
        rows_.assign(about_.texts.size(), {});
        switch (endpoint.dialect) {
            case RemoteDialect::openai: {
                const boost::json::array& data = array_of(member_of(json.root(), "data"), "`data`");
                demand_rows(data.size());
                for (std::size_t place = 0; place < data.size(); ++place) {
                    add(index_of(data[place], place, rows_.size()), member_of(data[place], "embedding"));
                }
                if (endpoint.form.load() == VectorForm::unknown) {
                    endpoint.form = asked_decimals_ ? VectorForm::decimals : VectorForm::base64;
                }
                break;
            }
            case RemoteDialect::tei: add_all(array_of(&json.root(), "of vectors")); break;
            case RemoteDialect::cohere: {
                const boost::json::value* const all = member_of(json.root(), "embeddings");
                add_all(array_of(all == nullptr ? nullptr : member_of(*all, "float"), "`embeddings.float`"));
                break;
            }
        }
        take_rows();
    }

    [[nodiscard]] bool ask_otherwise(Endpoint& endpoint, const Answer& answer) override {
        // An engine that knows no base64 says so in one of these; llama-server says 500 to all.
        const unsigned status = answer.status;
        const bool may_be = status == 400 || status == 422 || status == 501 || (status == 500 && answer.is_json);
        if (!may_be || refused_ == &endpoint || endpoint.dialect != RemoteDialect::openai ||
            endpoint.form.load() != VectorForm::unknown) {
            return false;
        }
        refused_ = &endpoint;
        return true;
    }

    /// The vectors that `read` found, one after the other.
    [[nodiscard]] std::vector<float> take_values() noexcept { return std::move(values_); }
    /// How many floats each has.
    [[nodiscard]] std::size_t dimension() const noexcept { return about_.dimension; }

private:
    void demand_rows(std::size_t count) const {
        if (count != rows_.size()) {
            throw Error(
                errc::bad_result, ModelKey(), Stage::inference,
                "the answer has " + std::to_string(count) + " vectors for " + std::to_string(rows_.size()) + " texts");
        }
    }
    void add_all(const boost::json::array& rows) {
        demand_rows(rows.size());
        for (std::size_t place = 0; place < rows.size(); ++place) {
            add(place, &rows[place]);
        }
    }
    // Row `index`, in whichever form it came.
    void add(std::size_t index, const boost::json::value* vector) {
        std::vector<float>& row = rows_[index];
        if (!row.empty()) {
            throw BrokenAnswer("the answer has two vectors for text " + std::to_string(index));
        }
        if (vector != nullptr && vector->is_string()) {
            const boost::json::string& text = vector->get_string();
            std::optional<std::vector<float>> floats = floats_of_base64({text.data(), text.size()});
            if (!floats) {
                throw BrokenAnswer("the answer has a vector that is no base64 of floats");
            }
            row = std::move(*floats);
        } else {
            const boost::json::array& numbers = array_of(vector, "`embedding`");
            row.reserve(numbers.size());
            for (const boost::json::value& number : numbers) {
                row.push_back(float_of(&number, "an element of a vector"));
            }
        }
        if (row.empty()) {
            throw BrokenAnswer("the answer has a vector without elements");
        }
    }

    void take_rows() {
        if (about_.dimension == 0 && !rows_.empty()) {
            about_.dimension = rows_.front().size();
        }
        values_.clear();
        values_.reserve(rows_.size() * about_.dimension);
        for (std::size_t index = 0; index < rows_.size(); ++index) {
            const std::vector<float>& row = rows_[index];
            if (row.size() != about_.dimension) {
                throw Error(errc::bad_result, ModelKey(), Stage::inference,
                            "the answer has a vector of " + std::to_string(row.size()) + " floats, and the model has " +
                                std::to_string(about_.dimension));
            }
            if (!std::all_of(row.begin(), row.end(), [](const float& value) { return is_finite(value); })) {
                throw Error(errc::bad_result, ModelKey(), Stage::inference,
                            "its vector has a number that is infinite or a NaN")
                    .at_text(index);
            }
            values_.insert(values_.end(), row.begin(), row.end());
        }
    }

    About about_;
    std::vector<std::vector<float>> rows_{};
    std::vector<float> values_{};
    // The endpoint that refused base64 last, and is asked for decimals.
    const Endpoint* refused_ = nullptr;
    // Whether `post` asked for decimals last.
    bool asked_decimals_ = false;
};

}  // namespace residency::detail::remote
