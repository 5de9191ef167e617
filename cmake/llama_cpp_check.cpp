// Compiled, and never run, when residency is configured: it names what residency uses of llama.cpp that came late or
// has moved.

#include <llama.h>

int residency_llama_cpp_check(llama_model* model) {
    llama_model_params load = llama_model_default_params();
    load.load_mode = LLAMA_LOAD_MODE_MMAP;
    llama_context_params use = llama_context_default_params();
    use.kv_unified = true;
    use.pooling_type = LLAMA_POOLING_TYPE_RANK;
    ggml_log_callback callback = nullptr;
    void* user_data = nullptr;
    llama_log_get(&callback, &user_data);
    llama_context* const context = llama_init_from_model(model, use);
    llama_memory_clear(llama_get_memory(context), false);
    llama_set_n_threads(context, 1, 1);
    const gguf_init_params metadata = {true, nullptr};
    gguf_free(gguf_init_from_file("", metadata));
    return llama_model_n_embd_out(model) + static_cast<int>(llama_model_n_cls_out(model)) +
           static_cast<int>(llama_max_parallel_sequences()) +
           (llama_model_chat_template(model, "rerank") != nullptr ? 1 : 0);
}
